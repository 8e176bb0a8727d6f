package container

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
	"linkspan/container/etc"
	"linkspan/store"
)

func (w *world) shops() {
	w.net.network("shop", "172.18.0.0/16", "172.18.0.1")
	w.net.network("back", "172.19.0.0/16", "172.19.0.1")
}

func (w *world) networks(ref string) string {
	c, err := w.e.Get(ref)
	if err != nil {
		return err.Error()
	}
	var out []string
	for n := range c.Networks {
		out = append(out, n+"="+itoa(c.Numbers[n]))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestConnectStoppedRunningPaused(t *testing.T) {
	w := newWorld(t)
	w.shops()
	e := w.start()
	ctx := t.Context()
	id := w.create("c1", "sleep 1000")
	ok(t, "stopped", e.Connect(ctx, id, "shop", nil))
	if got := w.networks(id); got != "bridge=0 shop=1" || w.net.on(id) != "none" {
		t.Error(got, w.net.on(id))
	}
	ok(t, "start", e.Start(ctx, id))
	ok(t, "running", e.Connect(ctx, id, "back-id", &apinetwork.EndpointSettings{Aliases: []string{"cache"}}))
	if got := w.net.on(id); got != "bridge=eth0 shop=eth1 back=eth2" {
		t.Error(got)
	}
	ok(t, "pause", e.Pause(ctx, id))
	ok(t, "paused", e.Disconnect(ctx, id, "shop", false))
	if got := w.net.on(id); got != "bridge=eth0 back=eth2" {
		t.Error(got)
	}
	ok(t, "paused again", e.Connect(ctx, id, "shop", nil))
	if got := w.networks(id); got != "back=2 bridge=0 shop=1" {
		t.Error(got)
	}
	ok(t, "unpause", e.Unpause(ctx, id))
	// The mode's own network goes and comes back under another number.
	ok(t, "own", e.Disconnect(ctx, id, "bridge", true))
	ok(t, "restart", e.Restart(ctx, id, StopOptions{Timeout: p(0)}))
	if got := w.net.on(id); got != "shop=eth1 back=eth2" {
		t.Error(got)
	}
	ok(t, "stop", e.Stop(ctx, id, StopOptions{Timeout: p(0)}))
	ok(t, "default", e.Connect(ctx, id, "default", nil))
	for _, n := range []string{"shop-id", "back"} {
		ok(t, n, e.Disconnect(ctx, id, n, false))
	}
	if got := w.networks(id); got != "bridge=3" {
		t.Error(got)
	}
	ok(t, "last", e.Disconnect(ctx, id, "bridge", false))
	ok(t, "start without", e.Start(ctx, id))
	if got := w.net.on(id); got != "" {
		t.Errorf("%q", got)
	}
	w.clean()
}

func TestConnectRefuses(t *testing.T) {
	w := newWorld(t)
	w.shops()
	e := w.start()
	ctx := t.Context()
	id := w.run("c1", "sleep 1000")
	w.create("stopped", "true")
	w.create("hosted", "true", func(r *CreateRequest) { r.HostConfig.NetworkMode = "host" })
	w.create("alone", "true", func(r *CreateRequest) { r.HostConfig.NetworkMode = "none" })
	w.create("joined", "true", func(r *CreateRequest) { r.HostConfig.NetworkMode = apicontainer.NetworkMode("container:" + id) })
	const shared = "container sharing network namespace with another container or host cannot be connected to any other network"
	const hostnet = "container cannot be disconnected from host network or connected to host network"
	const private = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
	for _, c := range []struct {
		what, ref, network string
		ep                 *apinetwork.EndpointSettings
		class              error
		words              string
	}{
		{"twice", "c1", "bridge", nil, cnm.ErrForbidden, "endpoint with name c1 already exists in network bridge"},
		{"twice, stopped", "stopped", "default", nil, cnm.ErrForbidden, "endpoint with name stopped already exists in network bridge"},
		{"unknown network", "c1", "nope", nil, cnm.ErrNotFound, "network nope not found"},
		{"unknown network, stopped", "stopped", "nope", nil, cnm.ErrNotFound, "network nope not found"},
		{"unknown container", "nobody", "shop", nil, cnm.ErrNotFound, "No such container: nobody"},
		{"host mode", "hosted", "shop", nil, cnm.ErrInvalid, shared},
		{"container mode", "joined", "shop", nil, cnm.ErrInvalid, shared},
		{"to host", "c1", "host", nil, cnm.ErrInvalid, hostnet},
		{"to none", "c1", "none", nil, cnm.ErrInvalid, private},
		{"from none", "alone", "shop", nil, cnm.ErrInvalid, private},
		{"alias", "c1", "shop", &apinetwork.EndpointSettings{Aliases: []string{" "}}, cnm.ErrInvalid, "is no name"},
		{"link", "c1", "shop", &apinetwork.EndpointSettings{Links: []string{""}}, cnm.ErrInvalid, "empty string specified for links"},
	} {
		refused(t, c.what, e.Connect(ctx, c.ref, c.network, c.ep), c.class, c.words)
	}
	refused(t, "not on it", e.Disconnect(ctx, "c1", "shop", false), cnm.ErrNotFound, "container "+id+" is not connected to network shop")
	refused(t, "not on it, forced", e.Disconnect(ctx, "stopped", "shop", true), cnm.ErrNotFound, "is not connected to network shop")
	refused(t, "unknown", e.Disconnect(ctx, "c1", "nope", true), cnm.ErrNotFound, "network nope not found")
	refused(t, "off host", e.Disconnect(ctx, "hosted", "host", true), cnm.ErrInvalid, hostnet)
	// A container without a network may get one, once it is off none.
	ok(t, "off none", e.Disconnect(ctx, "alone", "none", false))
	ok(t, "on shop", e.Connect(ctx, "alone", "shop", nil))
	w.clean()
}

// A network that is gone does not keep a stopped container that refers to it.
func TestDisconnectFromAGoneNetwork(t *testing.T) {
	w := newWorld(t)
	w.shops()
	e := w.start()
	ctx := t.Context()
	id := w.create("c1", "sleep 1000")
	ok(t, "connect", e.Connect(ctx, id, "shop", nil))
	delete(w.net.nets, "shop")
	w.net.network("other", "172.20.0.0/16", "172.20.0.1")
	ok(t, "another", e.Connect(ctx, id, "other", nil))
	ok(t, "rename", e.Rename(ctx, id, "c2"))
	refused(t, "start", e.Start(ctx, id), cnm.ErrNotFound, "network shop not found: it was removed while container c2")
	ok(t, "disconnect", e.Disconnect(ctx, id, "shop", true))
	ok(t, "start", e.Start(ctx, id))
	w.clean()
}

// What fails changes nothing: not the record, not the sandbox, not what is held.
func TestConnectFails(t *testing.T) {
	w := newWorld(t)
	w.shops()
	disk := &disk{Store: w.store}
	w.change = func(c *Config) { c.Store = disk }
	e := w.start()
	ctx := t.Context()
	id := w.run("c1", "sleep 1000")
	ep := &apinetwork.EndpointSettings{IPAMConfig: &apinetwork.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("172.18.0.7")}}
	same := func(what string) {
		t.Helper()
		if got := w.networks(id) + "; " + w.net.on(id); got != "bridge=0; bridge=eth0" || len(w.net.definition(id).Endpoints) != 1 {
			t.Errorf("%s: %s, %v", what, got, w.net.definition(id).Endpoints)
		}
	}
	w.net.failUpdate = cnm.Errorf(cnm.ErrExhausted, "no more veths")
	refused(t, "kernel", e.Connect(ctx, id, "shop", ep), cnm.ErrExhausted, "no more veths")
	same("kernel")
	w.net.failUpdate = nil
	w.net.failDefine = cnm.Conflict("Address already in use")
	refused(t, "held", e.Connect(ctx, id, "shop", ep), cnm.ErrConflict, "Address already in use")
	w.net.failDefine = nil
	same("held")
	// The disk is full when the sandbox is changed already.
	disk.full.Store(true)
	refused(t, "store", e.Connect(ctx, id, "shop", ep), cnm.ErrExhausted, "the data root is full")
	disk.full.Store(false)
	same("store")
	w.clean()
}

// The same with a controller that commits the record with the sandbox.
func TestConnectTogether(t *testing.T) {
	w := newWorld(t)
	w.shops()
	disk := &disk{Store: w.store}
	w.net.store = disk
	w.change = func(c *Config) { c.Store = disk }
	e := w.start()
	ctx := t.Context()
	id := w.run("c1", "sleep 1000")
	state := func(what, want string) {
		t.Helper()
		if got := w.networks(id) + "; " + w.net.on(id); got != want {
			t.Errorf("%s: %s", what, got)
		}
		if n := len(w.net.definition(id).Endpoints); n != strings.Count(want, "=")/2 {
			t.Errorf("%s: %d endpoints are held", what, n)
		}
		en, err := e.find(id)
		ok(t, "find", err)
		if stored, _, err := w.store.Get(ctx, recordPrefix+id); err != nil || stored.Rev != en.load().Rev || strings.Contains(string(stored.Value), `"shop"`) != strings.Contains(want, "shop") {
			t.Errorf("%s: revision %d in memory, stored %+v, %v", what, en.load().Rev, stored, err)
		}
	}
	const before, after = "bridge=0; bridge=eth0", "bridge=0 shop=1; bridge=eth0 shop=eth1"
	ok(t, "connect", e.Connect(ctx, id, "shop", nil))
	state("connected", after)
	if hosts, err := os.ReadFile(filepath.Join(e.dir(id), etc.HostsFile)); err != nil || strings.Count(string(hosts), "c1")+strings.Count(string(hosts), id[:12]) < 2 {
		t.Errorf("hosts: %s, %v", hosts, err)
	}
	ok(t, "disconnect", e.Disconnect(ctx, id, "shop", false))
	state("disconnected", before)

	disk.full.Store(true)
	if err := e.Connect(ctx, id, "shop", nil); !errors.Is(err, store.ErrFull) {
		t.Errorf("full: %v", err)
	}
	disk.full.Store(false)
	state("full", before)
	w.net.failAfter = cnm.Errorf(cnm.ErrExhausted, "no more veths")
	refused(t, "kernel", e.Connect(ctx, id, "shop", nil), cnm.ErrExhausted, "no more veths")
	state("kernel", before)
	refused(t, "kernel", e.Rename(ctx, id, "c2"), cnm.ErrExhausted, "no more veths")
	if c, err := e.Get(id); err != nil || c.Name != "c1" {
		t.Errorf("renamed to %s, %v", c.Name, err)
	}
	w.net.failAfter = nil
	ok(t, "rename", e.Rename(ctx, id, "c2"))

	// A container without a sandbox has its record alone.
	ok(t, "stop", e.Stop(ctx, id, StopOptions{}))
	ok(t, "connect", e.Connect(ctx, id, "shop", nil))
	if got := w.networks(id); got != "bridge=0 shop=1" {
		t.Errorf("stopped: %s", got)
	}
	w.clean()
}

// disk is a store on a disk that may be full.
type disk struct {
	store.Store
	full atomic.Bool
}

func (d *disk) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	if d.full.Load() {
		return 0, store.ErrFull
	}
	return d.Store.Commit(ctx, ops...)
}

// A daemon that dies anywhere in a connect or disconnect leaves either of before
// and after, and the next one brings the sandbox to the definition.
func TestConnectCrash(t *testing.T) {
	w := newWorld(t)
	w.shops()
	for _, point := range []string{"network.update.before", "network.update.after", "container.commit.connected.before", "container.commit.connected.after", "container.commit.disconnected.before", "container.commit.disconnected.after", "container.commit.renamed.before", "container.commit.renamed.after"} {
		e := w.bare()
		ok(t, "restore", e.Restore(t.Context()))
		w.e = e
		id := w.run("c1", "sleep 1000")
		if strings.Contains(point, "disconnected") {
			ok(t, "connect", e.Connect(t.Context(), id, "shop", nil))
		}
		w.stop(e)
		died := make(chan struct{})
		w.hook = func(p string) {
			if p == point {
				close(died)
				select {}
			}
		}
		e = w.bare()
		ok(t, "restore", e.Restore(t.Context()))
		go func() {
			switch {
			case strings.Contains(point, "disconnected"):
				_ = e.Disconnect(t.Context(), id, "shop", false)
			case strings.Contains(point, "renamed"):
				_ = e.Rename(t.Context(), id, "c2")
			default:
				_ = e.Connect(t.Context(), id, "shop", nil)
			}
		}()
		<-died
		w.hook = nil
		e.cancel()
		w.e = w.bare()
		ok(t, "restore after "+point, w.e.Restore(t.Context()))
		want, sandbox := "bridge=0", "bridge=eth0"
		if point == "container.commit.connected.after" || point == "container.commit.disconnected.before" {
			want, sandbox = "bridge=0 shop=1", "bridge=eth0 shop=eth1"
		}
		if got := w.networks(id); got != want || w.net.on(id) != sandbox {
			t.Errorf("after %s: %s, sandbox %s", point, got, w.net.on(id))
		}
		if n := len(w.net.definition(id).Endpoints); n != strings.Count(want, "=") {
			t.Errorf("after %s: %d endpoints are held", point, n)
		}
		name := "c1"
		if point == "container.commit.renamed.after" {
			name = "c2"
		}
		if sb, _ := w.net.Sandbox(id); sb.OwnerName != name {
			t.Errorf("after %s: the sandbox is %s's", point, sb.OwnerName)
		}
		w.clean()
		w.stop(w.e)
	}
}

func TestRenameTellsTheNetwork(t *testing.T) {
	w := newWorld(t)
	w.shops()
	e := w.start()
	ctx := t.Context()
	id := w.run("before", "sleep 1000", func(r *CreateRequest) { r.HostConfig.NetworkMode = "shop" })
	ok(t, "rename", e.Rename(ctx, id, "after"))
	sb, _ := w.net.Sandbox(id)
	if sb.OwnerName != "after" || sb.Endpoints[0].Names[0] != "after" {
		t.Errorf("%+v", sb)
	}
	w.net.failUpdate = cnm.Errorf(cnm.ErrUnavailable, "the kernel is busy")
	refused(t, "rename", e.Rename(ctx, id, "third"), cnm.ErrUnavailable, "busy")
	w.net.failUpdate = nil
	if c, _ := e.Get(id); c.Name != "after" {
		t.Error(c.Name)
	}
	if _, err := e.Get("third"); err == nil {
		t.Error("a name that was not given is taken")
	}
	w.clean()
}
