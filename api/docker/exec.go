package docker

import (
	"net/http"

	"linkspan/cnm"
	"linkspan/container"

	"github.com/moby/moby/api/types/common"
	apicontainer "github.com/moby/moby/api/types/container"
)

func (s *server) execRoutes() []route {
	return []route{
		post("/containers/{id}/exec", s.execCreate),
		get("/exec/{id}/json", s.execInspect),
		post("/exec/{id}/start", s.execStart),
		post("/exec/{id}/resize", s.execResize),
	}
}

func (s *server) execCreate(c *call) error {
	var body apicontainer.ExecCreateRequest
	if err := c.ReadJSON(&body); err != nil {
		return err
	}
	if len(body.Cmd) == 0 {
		return cnm.Invalid("no exec command specified")
	}
	if err := checkDetachKeys(body.DetachKeys); err != nil {
		return err
	}
	if c.Version.Before(42) {
		body.ConsoleSize = nil
	}
	id, err := s.Containers.ExecCreate(c.Context(), c.Vars["id"], container.ExecConfig{
		Cmd: body.Cmd, Env: body.Env, User: body.User, WorkingDir: body.WorkingDir,
		DetachKeys: body.DetachKeys, Tty: body.Tty, Privileged: body.Privileged,
		AttachStdin: body.AttachStdin, AttachStdout: body.AttachStdout, AttachStderr: body.AttachStderr,
		ConsoleSize: body.ConsoleSize,
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, common.IDResponse{ID: id})
}

// execProcess is the process of an exec as inspected; user and privileged are
// left out when unset, as Docker's.
type execProcess struct {
	Tty        bool     `json:"tty"`
	Entrypoint string   `json:"entrypoint"`
	Arguments  []string `json:"arguments"`
	Privileged *bool    `json:"privileged,omitempty"`
	User       string   `json:"user,omitempty"`
}

type execJSON struct {
	ID            string
	Running       bool
	ExitCode      *int
	ProcessConfig execProcess
	OpenStdin     bool
	OpenStderr    bool
	OpenStdout    bool
	CanRemove     bool
	ContainerID   string
	DetachKeys    string
	Pid           int
}

func (s *server) execInspect(c *call) error {
	e, err := s.Containers.ExecGet(c.Vars["id"])
	if err != nil {
		return err
	}
	j := execJSON{
		ID: e.ID, ContainerID: e.ContainerID, Running: e.Running, ExitCode: e.ExitCode, Pid: e.Pid,
		OpenStdin: e.Config.AttachStdin, OpenStdout: e.Config.AttachStdout, OpenStderr: e.Config.AttachStderr,
		ProcessConfig: execProcess{
			Tty: e.Config.Tty, Privileged: &e.Config.Privileged, User: e.Config.User, Arguments: []string{},
		},
	}
	if len(e.Config.Cmd) > 0 {
		j.ProcessConfig.Entrypoint, j.ProcessConfig.Arguments = e.Config.Cmd[0], e.Config.Cmd[1:]
	}
	return c.JSON(http.StatusOK, j)
}

func (s *server) execStart(c *call) error {
	var body apicontainer.ExecStartRequest
	if err := c.ReadJSON(&body); err != nil {
		return err
	}
	id := c.Vars["id"]
	e, err := s.Containers.ExecGet(id)
	if err != nil {
		return err
	}
	if e.Running {
		return cnm.Conflict("Error: Exec command %s is already running", id)
	}
	if e.Started || e.ExitCode != nil {
		return cnm.Conflict("Error: Exec command %s has already run", id)
	}
	size := body.ConsoleSize
	if c.Version.Before(42) {
		size = nil
	}
	if size != nil && !body.Tty {
		return cnm.Invalid("console size is only supported for TTYs: exec %s was started without one", id)
	}
	if body.Detach {
		if err := s.Containers.ExecStart(c.Context(), id, body.Tty, size, nil, nil); err != nil {
			return err
		}
		return c.Empty(http.StatusOK)
	}
	conn, err := c.hijack(!body.Tty)
	if err != nil {
		return err
	}
	defer conn.close()
	if err := s.Containers.ExecStart(c.Context(), id, body.Tty, size, conn.file, conn.pending); err != nil {
		conn.complain(err, !body.Tty)
		return err
	}
	return nil
}

func (s *server) execResize(c *call) error {
	h, w, err := c.size()
	if err != nil {
		return err
	}
	if err := s.Containers.ExecResize(c.Context(), c.Vars["id"], h, w); err != nil {
		return err
	}
	return c.Empty(http.StatusOK)
}
