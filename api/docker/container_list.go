package docker

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"linkspan/container"

	"github.com/docker/go-units"
	apicontainer "github.com/moby/moby/api/types/container"
)

// summaryJSON is one line of `docker ps`. Ports without a host address leave
// the field out, and the networks depend on the version.
type summaryJSON struct {
	apicontainer.Summary
	Ports           []portSummary
	NetworkSettings struct{ Networks map[string]*endpointJSON }
}

func (s *server) containerList(c *call) error {
	limit, _, err := c.Int("limit")
	if err != nil {
		return err
	}
	f, err := c.Filters()
	if err != nil {
		return err
	}
	sel, err := s.newSelection(c, f)
	if err != nil {
		return err
	}
	sel.all = sel.all || c.Bool("all") || limit > 0
	all := s.Containers.List()
	slices.SortFunc(all, func(a, b *container.Container) int {
		if n := b.Created.Compare(a.Created); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	list := []*summaryJSON{}
	images := imageNames{s: s, c: c}
	sel.links = linkNames(all)
	for _, ctr := range all {
		if limit > 0 && len(list) == limit {
			break
		}
		if !sel.wants(ctr) {
			continue
		}
		j := s.renderSummary(c, ctr, sel.links[ctr.ID], &images)
		if !sel.ports(j.Ports) {
			continue
		}
		if c.Bool("size") {
			if j.SizeRw, j.SizeRootFs, err = s.Containers.Size(c.Context(), ctr.ID); err != nil {
				return err
			}
		}
		list = append(list, j)
	}
	return c.JSON(http.StatusOK, list)
}

// linkNames are the further names that links give to containers, by id.
func linkNames(all []*container.Container) map[string][]string {
	names := map[string][]string{}
	for _, ctr := range all {
		for _, l := range ctr.Links {
			names[l.Target] = append(names[l.Target], linkName(ctr, l))
		}
	}
	for _, n := range names {
		slices.Sort(n)
	}
	return names
}

func (s *server) renderSummary(c *call, ctr *container.Container, links []string, images *imageNames) *summaryJSON {
	j := &summaryJSON{
		Summary: apicontainer.Summary{
			ID: ctr.ID, Names: append([]string{"/" + ctr.Name}, links...),
			Image: images.shown(ctr), ImageID: ctr.ImageID,
			Command: command(ctr.Path, ctr.Args), Created: ctr.Created.Unix(),
			Labels: orEmptyMap(ctr.Config.Labels),
			State:  apicontainer.ContainerState(ctr.State.Phase), Status: statusLine(ctr.State, time.Now()),
			Mounts: renderMounts(ctr.Mounts),
		},
		Ports: []portSummary{},
	}
	j.HostConfig.NetworkMode = string(networkMode(ctr))
	if !c.Version.Before(46) {
		j.HostConfig.Annotations = ctr.HostConfig.Annotations
	}
	j.NetworkSettings.Networks = s.renderEndpoints(c.Version, ctr)
	if sb := s.ownSandbox(ctr); sb != nil {
		j.Ports = portList(ctr, sb)
	}
	return j
}

// command is the command line as `docker ps` shows it.
func command(path string, args []string) string {
	words := []string{path}
	for _, a := range args {
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// statusLine is the STATUS column: "Up 4 hours", "Exited (0) 2 minutes ago".
func statusLine(st container.State, now time.Time) string {
	ago := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch st.Phase {
	case container.Running:
		return "Up " + ago(st.StartedAt) + healthWord(st.Health)
	case container.Paused:
		return "Up " + ago(st.StartedAt) + " (Paused)"
	case container.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", st.ExitCode, ago(st.FinishedAt))
	case container.Removing:
		return "Removal In Progress"
	case container.Dead:
		return "Dead"
	case container.Created:
		return "Created"
	}
	if st.FinishedAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s ago", st.ExitCode, ago(st.FinishedAt))
}

// healthWord is the health behind the STATUS: " (healthy)".
func healthWord(h *container.Health) string {
	switch {
	case h == nil || h.Status == "" || h.Status == apicontainer.NoHealthcheck:
		return ""
	case h.Status == apicontainer.Starting:
		return " (health: starting)"
	}
	return " (" + string(h.Status) + ")"
}

// imageNames tells under which name a container's image is shown: the one it
// was created with, or the id once that name means another image. One list asks
// for each name once.
type imageNames struct {
	s    *server
	c    *call
	seen map[string]string // name → id that it means now
}

func (n *imageNames) shown(ctr *container.Container) string {
	name := ctr.Config.Image
	if name == "" || name == ctr.ImageID {
		return ctr.ImageID
	}
	id, ok := n.seen[name]
	if !ok {
		id = ctr.ImageID // an image store that is away renames nothing
		img, err := n.s.Images.Get(n.c.Context(), name)
		switch {
		case err == nil:
			id = img.ID
		case status(err) == http.StatusNotFound:
			id = ""
		}
		if n.seen == nil {
			n.seen = map[string]string{}
		}
		n.seen[name] = id
	}
	if id != ctr.ImageID {
		return ctr.ImageID
	}
	return name
}
