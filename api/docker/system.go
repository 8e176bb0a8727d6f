package docker

import (
	"net/http"
	"runtime"

	"github.com/moby/moby/api/types/system"
)

func (s *server) systemRoutes() []route {
	return []route{
		get("/_ping", s.ping),
		head("/_ping", s.ping),
		get("/version", s.version),
		get("/info", s.info),
		get("/events", s.eventStream),
		get("/system/df", s.diskUsage),
		post("/auth", s.login),
	}
}

// ping is the handshake: clients read the headers, not the body. Builder-Version
// 1 keeps the CLI away from BuildKit, which is not served yet.
func (s *server) ping(c *call) error {
	h := c.Header()
	h.Set("Builder-Version", "1")
	h.Set("Swarm", "inactive")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if c.R.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return c.Empty(http.StatusOK)
	}
	_, err := c.Write([]byte("OK"))
	return err
}

func (s *server) facts(c *call) Facts {
	if s.Info == nil {
		return Facts{}
	}
	return s.Info(c.Context())
}

func (s *server) version(c *call) error {
	f := s.facts(c)
	v := system.VersionResponse{
		Platform:      system.PlatformInfo{Name: "Linkspan"},
		Version:       s.Version,
		APIVersion:    MaxVersion.String(),
		MinAPIVersion: MinVersion.String(),
		Os:            runtime.GOOS,
		Arch:          runtime.GOARCH,
		GitCommit:     s.Commit,
		GoVersion:     runtime.Version(),
		KernelVersion: f.KernelVersion,
		Experimental:  f.Experimental,
		BuildTime:     s.Built,
		Components: []system.ComponentVersion{{
			Name:    "Engine",
			Version: s.Version,
			Details: map[string]string{
				"ApiVersion":    MaxVersion.String(),
				"MinAPIVersion": MinVersion.String(),
				"Arch":          runtime.GOARCH,
				"Os":            runtime.GOOS,
				"BuildTime":     s.Built,
				"Experimental":  boolWord(f.Experimental),
				"GitCommit":     s.Commit,
				"GoVersion":     runtime.Version(),
				"KernelVersion": f.KernelVersion,
			},
		}},
	}
	for _, part := range []struct{ name, version string }{
		{"containerd", f.ContainerdVersion}, {"runc", f.RuncVersion},
	} {
		if part.version != "" {
			v.Components = append(v.Components, system.ComponentVersion{
				Name: part.name, Version: part.version, Details: map[string]string{},
			})
		}
	}
	return c.JSON(http.StatusOK, v)
}

func boolWord(b bool) string {
	if b {
		return "true"
	}
	return "false"
}
