package container

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
)

func TestUsableInit(t *testing.T) {
	dir := t.TempDir()
	script, plain := filepath.Join(dir, "script"), filepath.Join(dir, "plain")
	for f, mode := range map[string]os.FileMode{script: 0o755, plain: 0o644} {
		if err := os.WriteFile(f, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for p, words := range map[string]string{
		script: "", "/bin/busybox": "", plain: "not executable", dir: "not executable", "/no/such": "no such file", "/bin/ls": "linked dynamically",
	} {
		if _, err := os.Stat(p); err != nil && words != "no such file" {
			t.Logf("no %s here", p)
			continue
		}
		err := usableInit(p)
		if words == "" && err != nil || words != "" && (err == nil || !strings.Contains(err.Error(), words) || !errors.Is(err, cnm.ErrUnavailable)) {
			t.Errorf("%s: %v, want %q", p, err, words)
		}
	}
}

func TestWithInit(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		hc     apicontainer.HostConfig
		daemon bool
		want   bool
	}{
		{},
		{daemon: true, want: true},
		{hc: apicontainer.HostConfig{Init: &yes}, want: true},
		{hc: apicontainer.HostConfig{Init: &no}, daemon: true},
		{hc: apicontainer.HostConfig{Init: &yes, PidMode: "host"}},
		{hc: apicontainer.HostConfig{PidMode: "container:x"}, daemon: true},
	} {
		e := &Engine{}
		e.defaults.Store(&Defaults{Init: c.daemon})
		if got := e.withInit(&c.hc); got != c.want {
			t.Errorf("%+v with the daemon's %v: %v", c.hc, c.daemon, got)
		}
	}
}

// The init process is the first, and what it is mounted at is no change.
func TestInit(t *testing.T) {
	e := &Engine{}
	e.defaults.Store(&Defaults{})
	if _, err := e.initProgram(); err != nil {
		t.Skipf("probe: no init program: %v", err)
	}
	w := newWorld(t)
	w.start()
	defer w.clean()
	yes := true
	id := w.create("inited", "cat /proc/1/cmdline | tr '\\0' ' ' 2>/dev/null || cat /proc/1/comm; echo; (sleep 0.1 &); exit 3", func(r *CreateRequest) { r.HostConfig.Init = &yes })
	done, err := w.e.Wait(t.Context(), id, WaitNextExit)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if r := w.result(done); r.ExitCode != 3 {
		t.Errorf("exit code %d", r.ExitCode)
	}
	if out := w.logs(id); !strings.Contains(out, "docker-init") {
		t.Errorf("the first process is %q", out)
	}
	c, _ := w.e.Get(id)
	if c.Path != "sh" {
		t.Errorf("the command is shown as %s", c.Path)
	}
	list, err := w.e.Changes(t.Context(), id)
	if err != nil || len(list) != 0 {
		t.Errorf("changes %q, %v", changesText(list), err)
	}
}

func TestInitMissing(t *testing.T) {
	w := newWorld(t)
	w.change = func(c *Config) { c.Defaults.Init, c.Defaults.InitPath = true, "/no/such/init" }
	w.start()
	defer w.clean()
	if _, _, err := w.e.Create(t.Context(), request("none", "true")); !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "/no/such/init") {
		t.Errorf("%v", err)
	}
	no := false
	r := request("without", "true")
	r.HostConfig.Init = &no
	if _, _, err := w.e.Create(t.Context(), r); err != nil {
		t.Error(err)
	}
}

func TestLogConfig(t *testing.T) {
	w := newWorld(t)
	w.change = func(c *Config) {
		c.Defaults.LogConfig = apicontainer.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "3"}}
	}
	w.start()
	defer w.clean()
	look := func(name string, want apicontainer.LogConfig, size int64, files int, attrs string) {
		t.Helper()
		c, err := w.e.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		if c.HostConfig.LogConfig.Type != want.Type || len(c.HostConfig.LogConfig.Config) != len(want.Config) {
			t.Errorf("%s: %+v", name, c.HostConfig.LogConfig)
		}
		list, err := w.keeper.Streams(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			if s.ID == c.ID && (s.Log.MaxSize != size || s.Log.MaxFile != files || s.Log.Attrs["team"] != attrs) {
				t.Errorf("%s: the keeper has %+v", name, s.Log)
			}
		}
	}
	type conf = map[string]string
	w.create("plain", "true")
	look("plain", apicontainer.LogConfig{Type: "json-file", Config: conf{"max-size": "", "max-file": ""}}, 1_000_000, 3, "")
	w.create("own", "true", func(r *CreateRequest) {
		r.Config.Labels = conf{"team": "a"}
		r.HostConfig.LogConfig.Config = conf{"max-size": "5m", "labels": "team"}
	})
	look("own", apicontainer.LogConfig{Type: "json-file", Config: conf{"max-size": "", "max-file": "", "labels": ""}}, 5_000_000, 3, "a")
	w.create("local", "true", func(r *CreateRequest) { r.HostConfig.LogConfig.Type = "local" })
	look("local", apicontainer.LogConfig{Type: "local"}, 20<<20, 5, "")
	w.create("none", "true", func(r *CreateRequest) { r.HostConfig.LogConfig.Type = "none" })
	look("none", apicontainer.LogConfig{Type: "none"}, 0, 0, "")
	r := request("bad", "true")
	r.HostConfig.LogConfig.Config = conf{"max-sise": "1"}
	if _, _, err := w.e.Create(t.Context(), r); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "max-size") {
		t.Errorf("%v", err)
	}
}

func TestBadDaemonLogConfig(t *testing.T) {
	_, err := New(Config{Defaults: Defaults{LogConfig: apicontainer.LogConfig{Type: "json-file", Config: map[string]string{"nope": "1"}}}})
	if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "the daemon's log driver") {
		t.Errorf("%v", err)
	}
}
