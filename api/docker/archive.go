package docker

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"linkspan/cnm"
	"linkspan/container"
)

// statHeader carries what a path is, as base64 of JSON.
const statHeader = "X-Docker-Container-Path-Stat"

func (c *call) archivePath() (string, error) {
	if p := c.Query("path"); p != "" {
		return p, nil
	}
	return "", cnm.Invalid("bad parameter: 'path' cannot be empty")
}

func (c *call) setStat(st *container.PathStat) error {
	b, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("encoding what %s is: %w", st.Name, err)
	}
	c.Header().Set(statHeader, base64.StdEncoding.EncodeToString(b))
	return nil
}

func (s *server) archiveStat(c *call) error {
	path, err := c.archivePath()
	if err != nil {
		return err
	}
	st, err := s.Containers.StatPath(c.Context(), c.Vars["id"], path)
	if err != nil {
		return err
	}
	return c.setStat(st)
}

func (s *server) archiveGet(c *call) error {
	path, err := c.archivePath()
	if err != nil {
		return err
	}
	tar, st, err := s.Containers.GetArchive(c.Context(), c.Vars["id"], path)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := c.setStat(st); err != nil {
		return err
	}
	c.Header().Set("Content-Type", "application/x-tar")
	c.w.WriteHeader(http.StatusOK)
	if _, err := io.Copy(c.w, tar); err != nil {
		s.log.Warn("a copy out of a container was cut short", "container", c.Vars["id"], "path", path, "error", err)
		// A tar that ends too early must not look whole.
		panic(http.ErrAbortHandler)
	}
	return nil
}

func (s *server) archivePut(c *call) error {
	path, err := c.archivePath()
	if err != nil {
		return err
	}
	if err := s.Containers.PutArchive(c.Context(), c.Vars["id"], path, c.R.Body, c.Bool("noOverwriteDirNonDir"), c.Bool("copyUIDGID")); err != nil {
		return err
	}
	return c.Empty(http.StatusOK)
}
