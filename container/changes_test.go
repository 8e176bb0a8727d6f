package container

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	tasktypes "github.com/containerd/containerd/api/types/task"
	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
	"linkspan/image"
)

// layeredCall is what the fake image service was asked to make.
type layeredCall struct {
	parent string
	config image.Layered
	names  []string
	phase  Phase
}

// committing is fakeImages that takes commits.
type committing struct {
	*fakeImages
	calls []layeredCall
	phase func() Phase
}

func (f *committing) Layered(_ context.Context, parent *image.Image, r io.Reader, c image.Layered) (string, error) {
	call := layeredCall{parent: parent.ID, config: c, phase: f.phase()}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		call.names = append(call.names, h.Name)
	}
	f.calls = append(f.calls, call)
	return "sha256:made", nil
}

func changesText(list []apicontainer.FilesystemChange) (out []string) {
	for _, c := range list {
		out = append(out, c.Kind.String()+" "+c.Path)
	}
	return out
}

const change = "echo hi > /tmp/new; rm /data/file; echo x >> /etc/group; mkdir /work; echo v > /vol/inside; touch /ready; "

func TestChangesAndExport(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	defer w.clean()
	id := w.run("changer", change+"sleep 1000", func(r *CreateRequest) {
		r.Config.Volumes = map[string]struct{}{"/vol": {}}
	})
	w.eventually("the changes are made", func() bool { _, err := e.StatPath(t.Context(), id, "/ready"); return err == nil })
	want := []string{"C /data", "D /data/file", "C /etc", "C /etc/group", "A /ready", "C /tmp", "A /tmp/new", "A /vol", "A /work"}
	look := func(when string) {
		t.Helper()
		list, err := e.Changes(t.Context(), "changer")
		if err != nil {
			t.Fatal(err)
		}
		if got := changesText(list); !slices.Equal(got, want) {
			t.Errorf("%s: %q\nwant %q", when, got, want)
		}
		files := w.exported(id)
		for name, in := range map[string]bool{
			"tmp/new": true, "ready": true, "bin/busybox": true, "etc/group": true, "vol/": true, "proc/": true,
			"data/file": false, "vol/inside": false, "proc/1/": false, "dev/null": false,
		} {
			if _, ok := files[name]; ok != in {
				t.Errorf("%s: %s in the export: %v", when, name, ok)
			}
		}
		if files["etc/resolv.conf"] != "" || files["tmp/new"] != "hi\n" {
			t.Errorf("%s: %q, %q", when, files["etc/resolv.conf"], files["tmp/new"])
		}
	}
	look("running")
	if err := e.Pause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	look("paused")
	if err := e.Unpause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	zero := 0
	if err := e.Stop(t.Context(), id, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	look("stopped")
	if _, err := e.Changes(t.Context(), "nobody"); !errors.Is(err, cnm.ErrNotFound) {
		t.Error(err)
	}
	if _, err := e.Export(t.Context(), "nobody"); !errors.Is(err, cnm.ErrNotFound) {
		t.Error(err)
	}
	fresh := w.create("fresh", "true")
	if list, err := e.Changes(t.Context(), fresh); err != nil || len(list) != 0 {
		t.Errorf("never started: %q %v", list, err)
	}
}

// exported unpacks an export.
func (w *world) exported(id string) map[string]string {
	w.t.Helper()
	r, err := w.e.Export(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	files := map[string]string{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			w.t.Fatal(err)
		}
		b, err := io.ReadAll(t)
		if err != nil {
			w.t.Fatal(err)
		}
		if strings.HasPrefix(h.Name, "/") {
			w.t.Errorf("%s begins with a slash", h.Name)
		}
		files[h.Name] = string(b)
	}
}

// A reader that goes away gives the container back.
func TestExportCut(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	defer w.clean()
	id := w.create("cut", "true")
	r, err := e.Export(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := e.Start(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func TestCommit(t *testing.T) {
	w := newWorld(t)
	images := &committing{fakeImages: w.images}
	w.change = func(c *Config) { c.Images = images }
	e := w.start()
	defer w.clean()
	id := w.run("committer", change+"sleep 1000", func(r *CreateRequest) {
		r.Config.Env = []string{"A=1", "B=2"}
		r.Config.Labels = map[string]string{"l": "1"}
		r.Config.Volumes = map[string]struct{}{"/vol": {}}
	})
	images.phase = func() Phase { return w.phase(id) }
	w.eventually("the changes are made", func() bool { _, err := e.StatPath(t.Context(), id, "/ready"); return err == nil })
	_, events := w.bus.Subscribe(t.Context(), time.Time{})
	got, err := e.Commit(t.Context(), "committer", CommitOptions{
		Repo: "made", Tag: "v1", Comment: "why", Author: "me", Pause: true,
		Changes: []string{"ENV A=9", "EXPOSE 80", `CMD ["run","it"]`, "HEALTHCHECK CMD true"},
	})
	if err != nil || got != "sha256:made" {
		t.Fatal(got, err)
	}
	c := images.calls[0]
	if c.parent != "sha256:busybox" || c.config.Ref != "made:v1" || c.config.Author != "me" || c.config.Comment != "why" || c.phase != Paused {
		t.Errorf("%+v", c)
	}
	if want := []string{"data/", "data/.wh.file", "etc/", "etc/group", "ready", "tmp/", "tmp/new", "vol/", "work/"}; !slices.Equal(c.names, want) {
		t.Errorf("layer %q", c.names)
	}
	cfg := c.config.Config
	if !slices.Contains(cfg.Env, "A=9") || !slices.Contains(cfg.Env, "B=2") || slices.Contains(cfg.Env, "A=1") || cfg.Labels["l"] != "1" {
		t.Errorf("%+v", cfg)
	}
	if _, ok := cfg.ExposedPorts["80/tcp"]; !ok || !slices.Equal(cfg.Cmd, []string{"run", "it"}) {
		t.Errorf("%+v", cfg)
	}
	if h := c.config.Healthcheck; h == nil || !slices.Equal(h.Test, []string{"CMD-SHELL", "true"}) {
		t.Errorf("%+v", h)
	}
	if !strings.HasPrefix(c.config.CreatedBy, "sh -c echo hi") {
		t.Errorf("created by %q", c.config.CreatedBy)
	}
	if w.phase(id) != Running {
		t.Errorf("after the commit: %s", w.phase(id))
	}
	var actions []string
	for range 3 {
		actions = append(actions, (<-events).Action)
	}
	if !slices.Equal(actions, []string{"pause", "unpause", "commit"}) && !slices.Equal(actions, []string{"pause", "commit", "unpause"}) {
		t.Errorf("events %q", actions)
	}
	// What the request's config says wins over the container's, which it does not change.
	if _, err := e.Commit(t.Context(), "committer", CommitOptions{Config: &apicontainer.Config{User: "web", Env: []string{"B=3"}}}); err != nil {
		t.Fatal(err)
	}
	cfg = images.calls[1].config.Config
	if cfg.User != "web" || !slices.Contains(cfg.Env, "B=3") || !slices.Contains(cfg.Env, "A=1") || images.calls[1].phase != Running || images.calls[1].config.Ref != "" {
		t.Errorf("%+v", images.calls[1])
	}
	for _, o := range []CommitOptions{{Tag: "x"}, {Changes: []string{"RUN true"}}, {Changes: []string{"ENV"}}} {
		if _, err := e.Commit(t.Context(), "committer", o); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if w.phase(id) != Running {
		t.Errorf("after refusals: %s", w.phase(id))
	}
}

// A daemon that dies while a container is paused for a commit leaves it to the next
// one, which lets it go on; a container that a person paused stays paused.
func TestCommitCutShort(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	frozen, paused := w.run("frozen", "sleep 1000"), w.run("paused", "sleep 1000")
	en, err := e.find(frozen)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.freeze(t.Context(), en); err != nil {
		t.Fatal(err)
	}
	if err := e.Pause(t.Context(), paused); err != nil {
		t.Fatal(err)
	}
	w.stop(e)
	e = w.start()
	defer w.clean()
	for id, want := range map[string]Phase{frozen: Running, paused: Paused} {
		c, err := e.Get(id)
		if err != nil || c.State.Phase != want || c.State.Frozen {
			t.Errorf("%s: %+v, %v", c.Name, c.State, err)
		}
		p, err := e.ctd.process(t.Context(), id, "")
		if err != nil || (p.status == tasktypes.Status_RUNNING) != (want == Running) {
			t.Errorf("%s: its task is %v, %v", c.Name, p.status, err)
		}
	}
}
