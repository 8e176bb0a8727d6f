package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"

	"linkspan/cnm"
	"linkspan/events"
	"linkspan/internal/ctdtest"
	"linkspan/probe"
)

// rig is a Store on a private containerd.
type rig struct {
	*Store
	t      *testing.T
	ctd    *ctdtest.Server
	client *client.Client
	bus    *events.Bus
	begun  time.Time
}

func newRig(t *testing.T, edit ...func(*Config)) *rig {
	t.Helper()
	probe.Require(t, probe.Root, probe.Containerd, probe.Overlayfs)
	ctd := ctdtest.New(t)
	r := &rig{t: t, ctd: ctd, client: ctd.Client(), bus: events.New(), begun: time.Now()}
	cfg := Config{Client: r.client, Namespace: "test", Events: r.bus, CertsDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	for _, e := range edit {
		e(&cfg)
	}
	r.Store = New(cfg)
	r.hub = "127.0.0.1:1" // nobody there: no test asks the real one
	return r
}

// lines collects progress as text, "id: status".
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) tell(id, status string, current, total int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id != "" {
		status = id + ": " + status
	}
	if !slices.Contains(l.all, status) {
		l.all = append(l.all, status)
	}
}

func (l *lines) has(t *testing.T, parts ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range parts {
		if !slices.ContainsFunc(l.all, func(s string) bool { return strings.Contains(s, p) }) {
			t.Errorf("progress lacks %q:\n%s", p, strings.Join(l.all, "\n"))
		}
	}
}

func (r *rig) pull(ref string) *lines {
	r.t.Helper()
	l := &lines{}
	if err := r.Pull(r.t.Context(), ref, "", nil, l.tell); err != nil {
		r.t.Fatalf("pull %s: %v", ref, err)
	}
	return l
}

func (r *rig) get(ref string) *Image {
	r.t.Helper()
	img, err := r.Get(r.t.Context(), ref)
	if err != nil {
		r.t.Fatalf("get %s: %v", ref, err)
	}
	return img
}

// gone checks that nothing answers to the names.
func (r *rig) gone(refs ...string) {
	r.t.Helper()
	for _, ref := range refs {
		if _, err := r.Get(r.t.Context(), ref); !errors.Is(err, cnm.ErrNotFound) {
			r.t.Errorf("%s is still there: %v", ref, err)
		}
	}
}

// collect runs containerd's garbage collection.
func (r *rig) collect() { r.Store.collect(r.ns(r.t.Context())) }

// state is what containerd holds: content, snapshots, leases and names.
func (r *rig) state() (blobs, snaps, leased, names []string) {
	r.t.Helper()
	ctx := r.ns(context.WithoutCancel(r.t.Context()))
	err := errors.Join(
		r.content().Walk(ctx, func(i content.Info) error { blobs = append(blobs, i.Digest.String()); return nil }),
		r.snapshotter().Walk(ctx, func(_ context.Context, i snapshots.Info) error { snaps = append(snaps, i.Name); return nil }),
	)
	ls, e2 := r.client.LeasesService().List(ctx)
	for _, l := range ls {
		leased = append(leased, l.ID)
	}
	is, e3 := r.client.ImageService().List(ctx)
	for _, i := range is {
		names = append(names, i.Name)
	}
	if err := errors.Join(err, e2, e3); err != nil {
		r.t.Fatal(err)
	}
	return
}

// empty checks that nothing at all is left in containerd.
func (r *rig) empty() {
	r.t.Helper()
	r.collect()
	blobs, snaps, leased, names := r.state()
	if len(blobs)+len(snaps)+len(leased)+len(names) > 0 {
		r.t.Errorf("left behind: content %v, snapshots %v, leases %v, names %v", blobs, snaps, leased, names)
	}
}

// actions are the events so far, "action id".
func (r *rig) actions() (list []string) {
	past, _ := r.bus.Subscribe(r.t.Context(), r.begun)
	for _, e := range past {
		list = append(list, e.Action+" "+e.ID)
	}
	return list
}

// files mounts a snapshot and reads its files.
func (r *rig) files(key string) map[string]string {
	r.t.Helper()
	mounts, err := r.snapshotter().Mounts(r.ns(r.t.Context()), key)
	if err != nil {
		r.t.Fatal(err)
	}
	dir := r.t.TempDir()
	if err := mount.All(mounts, dir); err != nil {
		r.t.Fatal(err)
	}
	defer mount.UnmountAll(dir, 0)
	found := map[string]string{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		b, _ := os.ReadFile(filepath.Join(dir, e.Name()))
		found[e.Name()] = string(b)
	}
	return found
}

type fakeUsers map[string][]User

func (f fakeUsers) ImageUsers(id string) []User { return f[id] }

func removed(list []Deleted) (text []string) {
	for _, d := range list {
		if d.Untagged != "" {
			text = append(text, "Untagged: "+d.Untagged)
		} else {
			text = append(text, "Deleted: "+d.Deleted)
		}
	}
	return text
}

func TestKeyed(t *testing.T) {
	var k keyed
	unlock, err := k.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := k.lock(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	if _, ok := k.tryLock("a"); ok {
		t.Error("a key was taken twice")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := k.lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("lock of a held key: %v", err)
	}
	var wg sync.WaitGroup
	inside, most := 0, 0
	for range 20 {
		wg.Go(func() {
			u, err := k.lock(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			inside++
			most = max(most, inside)
			inside--
			u()
		})
	}
	unlock()
	wg.Wait()
	if most != 1 || len(k.m) != 0 {
		t.Errorf("%d at once, %d keys left", most, len(k.m))
	}
}

func TestContainerdAway(t *testing.T) {
	r := newRig(t)
	r.ctd.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := r.List(ctx); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("list: %v", err)
	}
	r.ctd.Run()
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := r.List(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("does not recover: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestRecover(t *testing.T) {
	r := newRig(t)
	ctx := r.ns(t.Context())
	if _, _, err := r.lease(ctx, "load"); err != nil {
		t.Fatal(err)
	}
	p := &puller{s: r.Store}
	p.ref, _ = parseName("x")
	p.root.Digest = "sha256:" + "00"
	if _, _, err := p.lease(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, leased, _ := r.state(); fmt.Sprint(leased) != "[linkspan-pull-00]" {
		t.Errorf("leases %v", leased)
	}
}
