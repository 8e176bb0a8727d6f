package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/mesh/host"
	"linkspan/store/mem"
	"linkspan/wireguard"
)

// heldDevice is a keeper that holds tunnels.
type heldDevice struct {
	mu  sync.Mutex
	has wireguard.Config
	err error
}

func (d *heldDevice) SetTunnel(_ context.Context, c wireguard.Config) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.has, err = c.Normal()
	}
	return errors.Join(d.err, err)
}

func (d *heldDevice) RemoveTunnel(context.Context, string) error { return nil }

func (d *heldDevice) Tunnels(context.Context) ([]wireguard.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return []wireguard.Status{{Name: d.has.Name, PublicKey: d.has.PrivateKey.Public()}}, nil
}

func (d *heldDevice) config() wireguard.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.has
}

// silentSink hears nothing.
type silentSink struct{}

func (silentSink) Networks(context.Context, []*cnm.Network)              {}
func (silentSink) Peers(context.Context)                                 {}
func (silentSink) Remote(context.Context, string, cnm.RemoteChange)      {}
func (silentSink) Ask(context.Context, string, netip.Addr, string) error { return nil }
func (silentSink) Unask(context.Context, string, netip.Addr)             {}

// secured is a host of a mesh with its tunnels.
type secured struct {
	x       *encryption
	dev     *heldDevice
	mesh    *mesh.Mesh
	changed atomic.Int32
}

// TestEncryption: two hosts find each other's keys in the mesh, and one that changes its
// own has it at the other.
func TestEncryption(t *testing.T) {
	st := mem.New(mem.Options{})
	record, err := mesh.Found(t.Context(), st, mesh.NewID(), "test")
	if err != nil {
		t.Fatal(err)
	}
	var hosts []*secured
	for i, name := range []string{"one", "two"} {
		self, err := mesh.Enroll(t.Context(), st, mesh.Host{Name: name, Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})})
		if err != nil {
			t.Fatal(err)
		}
		s := &secured{dev: &heldDevice{}}
		s.x = newEncryption(wireguard.ManagerConfig{
			Dir: t.TempDir(), Device: "ls-wtest", UserSpace: wireguard.InKeeper(s.dev), Changed: func() { s.changed.Add(1) },
			CheckEvery: 50 * time.Millisecond, Log: slog.New(slog.DiscardHandler), Probe: func() error { return errors.New("not here") },
		}, func() bool { return true })
		if s.mesh, err = mesh.New(mesh.Config{Store: st, Mesh: record.ID, Self: self, Sink: silentSink{}, Place: mesh.Place{Dev: "eth0", MTU: 1500}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.mesh.Run(ctx) })
		wg.Go(func() { s.x.Beside(ctx, host.Inside{Mesh: s.mesh, Ports: host.DefaultPorts}) })
		t.Cleanup(func() { cancel(); wg.Wait() })
		hosts = append(hosts, s)
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("never: %s\n%+v\n%+v", what, hosts[0].dev.config(), hosts[1].dev.config())
			}
		}
	}
	knows := func(s, o *secured) bool {
		c := s.dev.config()
		addr, _ := o.mesh.SecureAddr()
		return len(c.Peers) == 1 && c.Peers[0].PublicKey == o.dev.config().PrivateKey.Public() && c.Peers[0].Keepalive > 0 &&
			len(c.Peers[0].Allowed) == 1 && c.Peers[0].Allowed[0].Addr() == addr && c.Peers[0].Endpoint.Port() == host.DefaultPorts.Encryption && c.MTU == 1440
	}
	until("each has the other", func() bool { return knows(hosts[0], hosts[1]) && knows(hosts[1], hosts[0]) })
	former := hosts[0].dev.config().PrivateKey
	if err := hosts[0].x.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	until("the other has the next key", func() bool {
		return hosts[0].dev.config().PrivateKey != former && knows(hosts[0], hosts[1]) && knows(hosts[1], hosts[0])
	})
	p := hosts[0].x.Place(mesh.Place{Dev: "eth0", MTU: 1500, PathMTU: 1400}, netip.MustParseAddr("10.0.0.1"))
	if p.Secure != "ls-wtest" || !p.SecureUserSpace || p.SecureMTU != 1340 || hosts[0].changed.Load() == 0 || hosts[0].x.String() != wireguard.KindUserSpace {
		t.Errorf("place: %+v, told %d times, %s", p, hosts[0].changed.Load(), hosts[0].x)
	}
	hosts[1].dev.mu.Lock()
	hosts[1].dev.err = cnm.Conflict("the port is taken")
	hosts[1].dev.mu.Unlock()
	until("there is none", func() bool {
		p := hosts[1].x.Place(mesh.Place{MTU: 1500}, netip.MustParseAddr("10.0.0.2"))
		return p.Secure == "" && hosts[1].x.String() == "the port is taken"
	})
}
