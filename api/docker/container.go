package docker

import (
	"net/http"

	"linkspan/cnm"
	"linkspan/container"

	apicontainer "github.com/moby/moby/api/types/container"
)

// What the container service may offer beyond container.Service. The door asks
// for it where it needs it: execLister names the execs of a container, for inspect.
type execLister interface{ ExecIDs(ref string) []string }

func (s *server) containerRoutes() []route {
	return []route{
		get("/containers/json", s.containerList),
		post("/containers/create", s.containerCreate),
		post("/containers/prune", s.containerPrune),
		get("/containers/{id}/json", s.containerInspect),
		get("/containers/{id}/{link}/json", ofLink(s.containerInspect)),
		get("/containers/{id}/top", s.containerTop),
		get("/containers/{id}/logs", s.containerLogs),
		get("/containers/{id}/stats", s.containerStats),
		get("/containers/{id}/changes", s.containerChanges),
		get("/containers/{id}/export", s.containerExport),
		post("/containers/{id}/update", s.containerUpdate),
		post("/commit", s.containerCommit),
		post("/containers/{id}/start", s.containerStart),
		post("/containers/{id}/stop", s.containerStop),
		post("/containers/{id}/restart", s.containerRestart),
		post("/containers/{id}/kill", s.containerKill),
		post("/containers/{id}/pause", s.containerPause),
		post("/containers/{id}/unpause", s.containerUnpause),
		post("/containers/{id}/rename", s.containerRename),
		post("/containers/{id}/resize", s.containerResize),
		post("/containers/{id}/wait", s.containerWait),
		post("/containers/{id}/attach", s.containerAttach),
		del("/containers/{id}", s.containerRemove),
		del("/containers/{id}/{link}", ofLink(s.containerRemove)),
		head("/containers/{id}/archive", s.archiveStat),
		get("/containers/{id}/archive", s.archiveGet),
		put("/containers/{id}/archive", s.archivePut),
	}
}

// done answers a change that has nothing to tell.
func (c *call) done(err error) error {
	if err != nil {
		return err
	}
	return c.Empty(http.StatusNoContent)
}

func (s *server) containerStart(c *call) error {
	// Clients before 1.24 could send a HostConfig here. To ignore it would start
	// something else than what was asked for.
	if c.R.ContentLength > 7 { // "{}" and "null" say nothing
		return cnm.Invalid("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if c.Query("checkpoint") != "" {
		return cnm.Unsupported("not yet: checkpoints of a container (CRIU) are neither made nor restored")
	}
	if ctr, err := s.Containers.Get(c.Vars["id"]); err == nil {
		s.handovers.wait(c.Context(), ctr.ID)
	}
	return c.done(s.Containers.Start(c.Context(), c.Vars["id"]))
}

// stopOptions reads t (seconds) and signal, for stop and restart.
func (c *call) stopOptions() (container.StopOptions, error) {
	o := container.StopOptions{Signal: c.Query("signal")}
	t, ok, err := c.Int("t")
	if ok {
		o.Timeout = &t
	}
	return o, err
}

func (s *server) containerStop(c *call) error {
	o, err := c.stopOptions()
	if err != nil {
		return err
	}
	return c.done(s.Containers.Stop(c.Context(), c.Vars["id"], o))
}

func (s *server) containerRestart(c *call) error {
	o, err := c.stopOptions()
	if err != nil {
		return err
	}
	return c.done(s.Containers.Restart(c.Context(), c.Vars["id"], o))
}

func (s *server) containerKill(c *call) error {
	return c.done(s.Containers.Kill(c.Context(), c.Vars["id"], c.Query("signal")))
}

func (s *server) containerPause(c *call) error {
	return c.done(s.Containers.Pause(c.Context(), c.Vars["id"]))
}

func (s *server) containerUnpause(c *call) error {
	return c.done(s.Containers.Unpause(c.Context(), c.Vars["id"]))
}

func (s *server) containerRename(c *call) error {
	return c.done(s.Containers.Rename(c.Context(), c.Vars["id"], c.Query("name")))
}

func (s *server) containerResize(c *call) error {
	h, w, err := c.size()
	if err != nil {
		return err
	}
	if err := s.Containers.Resize(c.Context(), c.Vars["id"], h, w); err != nil {
		return err
	}
	return c.Empty(http.StatusOK)
}

// size reads a terminal's height and width.
func (c *call) size() (height, width uint, err error) {
	var hw [2]uint
	for i, key := range []string{"h", "w"} {
		n, ok, err := c.Int(key)
		if err != nil {
			return 0, 0, err
		}
		if !ok || n < 0 || n > 65535 { // struct winsize holds 16 bits, ioctl_tty(2)
			return 0, 0, cnm.Invalid("invalid value %q for %s: a terminal's size is a whole number from 0 to 65535", c.Query(key), key)
		}
		hw[i] = uint(n)
	}
	return hw[0], hw[1], nil
}

// ofLink serves names of links, such as web/db.
func ofLink(h handler) handler {
	return func(c *call) error {
		c.Vars["id"] += "/" + c.Vars["link"]
		return h(c)
	}
}

func (s *server) containerRemove(c *call) error {
	return c.done(s.Containers.Remove(c.Context(), c.Vars["id"], container.RemoveOptions{
		Force: c.Bool("force"), Volumes: c.Bool("v"), Link: c.Bool("link"),
	}))
}

func (s *server) containerTop(c *call) error {
	args := c.Query("ps_args")
	if args == "" {
		args = "-ef"
	}
	titles, rows, err := s.Containers.Top(c.Context(), c.Vars["id"], args)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, apicontainer.TopResponse{Titles: titles, Processes: orEmpty(rows)})
}

// containerWait registers, sends the headers so that the client knows that it
// may start the container now, and then waits.
func (s *server) containerWait(c *call) error {
	cond := container.WaitNotRunning
	if !c.Version.Before(30) {
		switch q := container.WaitCondition(c.Query("condition")); q {
		case "":
		case container.WaitNotRunning, container.WaitNextExit, container.WaitRemoved:
			cond = q
		default:
			return cnm.Invalid("invalid condition: %q: it must be one of not-running, next-exit, removed", string(q))
		}
	}
	ctx, cancel := c.Streaming()
	defer cancel()
	result, err := s.Containers.Wait(ctx, c.Vars["id"], cond)
	if err != nil {
		return err
	}
	c.Header().Set("Content-Type", "application/json")
	if !c.Version.Before(30) {
		c.Begin(http.StatusOK)
	}
	select {
	case <-ctx.Done():
		// An answer cut short is an error to the client, unlike an empty one.
		panic(http.ErrAbortHandler)
	case r := <-result:
		answer := apicontainer.WaitResponse{StatusCode: int64(r.ExitCode)}
		if r.Err != nil {
			answer.Error = &apicontainer.WaitExitError{Message: r.Err.Error()}
		}
		return c.Encode(answer)
	}
}

// containerPrune removes the stopped containers that the filters name.
func (s *server) containerPrune(c *call) error {
	old, err := c.pruneRules()
	if err != nil {
		return err
	}
	report := apicontainer.PruneReport{ContainersDeleted: []string{}}
	for _, ctr := range s.Containers.List() {
		switch ctr.State.Phase {
		case container.Created, container.Exited, container.Dead:
		default:
			continue
		}
		if !old(ctr.Created, ctr.Config.Labels) {
			continue
		}
		size, _, _ := s.Containers.Size(c.Context(), ctr.ID)
		if err := s.Containers.Remove(c.Context(), ctr.ID, container.RemoveOptions{}); err != nil {
			s.log.Warn("a stopped container could not be pruned", "container", ctr.Name, "error", err)
			continue
		}
		report.ContainersDeleted = append(report.ContainersDeleted, ctr.ID)
		report.SpaceReclaimed += uint64(max(size, 0))
	}
	s.pruned("container", report.SpaceReclaimed)
	return c.JSON(http.StatusOK, report)
}
