package docker

import (
	"io"
	"net/http"

	"linkspan/cnm"
	"linkspan/container"

	apicontainer "github.com/moby/moby/api/types/container"
)

// containerChanges answers `docker diff`.
func (s *server) containerChanges(c *call) error {
	changes, err := s.Containers.Changes(c.Context(), c.Vars["id"])
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, orEmpty(changes))
}

// containerExport answers `docker export` with the root as a tar.
func (s *server) containerExport(c *call) error {
	r, err := s.Containers.Export(c.Context(), c.Vars["id"])
	if err != nil {
		return err
	}
	defer r.Close()
	c.Header().Set("Content-Type", "application/octet-stream")
	if _, err = io.Copy(c.w, r); err != nil && c.w.started() && c.Context().Err() == nil {
		// A tar cut short must not look whole: the connection breaks.
		s.log.Error("the export of a container was cut short", "container", c.Vars["id"], "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// containerCommit answers `docker commit`: the body, if any, is a configuration
// that is put over the container's.
func (s *server) containerCommit(c *call) error {
	o := container.CommitOptions{
		Repo: c.Query("repo"), Tag: c.Query("tag"), Comment: c.Query("comment"), Author: c.Query("author"),
		Pause: c.BoolOr("pause", true), Changes: c.R.URL.Query()["changes"],
	}
	if err := c.ReadJSON(&o.Config); err != nil {
		return err
	}
	if c.Query("container") == "" {
		return cnm.Invalid("the query names no container to make an image of")
	}
	if o.Repo == "" && o.Tag != "" {
		return cnm.Invalid("invalid reference format: the query has the tag %q and no repo", o.Tag)
	}
	if _, err := repoTag(o.Repo, o.Tag); err != nil {
		return err
	}
	id, err := s.Containers.Commit(c.Context(), c.Query("container"), o)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, apicontainer.CommitResponse{ID: id})
}

// containerUpdate answers `docker update`.
func (s *server) containerUpdate(c *call) error {
	var u apicontainer.UpdateConfig
	if c.R.ContentLength == 0 {
		return cnm.Invalid("invalid JSON: got EOF while reading request body: nothing to update was named")
	}
	if err := c.ReadJSON(&u); err != nil {
		return err
	}
	if c.Version.Before(40) {
		u.PidsLimit = nil // came with 1.40
	}
	warnings, err := s.Containers.Update(c.Context(), c.Vars["id"], u)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, apicontainer.UpdateResponse{Warnings: warnings})
}
