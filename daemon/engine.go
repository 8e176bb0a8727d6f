package daemon

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	ctd "github.com/containerd/containerd/v2/client"

	"linkspan/config"
	"linkspan/container"
	"linkspan/containerd"
	"linkspan/dataplane/linux"
	"linkspan/events"
	"linkspan/image"
	"linkspan/keeper"
	"linkspan/mesh/host"
	"linkspan/netns"
	"linkspan/network"
	"linkspan/store"
	"linkspan/store/bolt"
	"linkspan/volume"
)

// engine is the rooms, wired. Its close undoes in reverse what its open did.
type engine struct {
	Options
	id, instance string // of the data root: whole, and the six digits in our marks
	cfg          *config.Config
	log          *slog.Logger
	hook         func(point string)

	events     *events.Bus
	store      store.Store
	kernel     *linux.Kernel
	keeper     *keeper.Client
	containerd *containerd.Daemon
	client     *ctd.Client
	namespace  string // containerd's
	images     *image.Store
	volumes    *volume.Store
	network    *network.Controller
	containers *container.Engine
	mesh       *host.Host
	span       *span
	hearing    hearing

	// unsupervise ends the watch over the keeper, and returns when it has ended.
	unsupervise func()
	undo        []func() error
}

func openEngine(ctx context.Context, o Options, cfg *config.Config, log *slog.Logger) (_ *engine, err error) {
	e := &engine{Options: o, cfg: cfg, log: log, events: events.New()}
	if e.hook, err = failPoint(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.unwind())
		}
	}()
	for _, step := range []func(context.Context) error{
		e.openStore, e.openKernel, e.openKeeper, e.openContainerd, e.openMesh, e.openRooms, e.openHearing, e.restore,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (e *engine) later(f func() error) { e.undo = append(e.undo, f) }

func (e *engine) unwind() (err error) {
	for i := len(e.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, e.undo[i]())
	}
	e.undo = nil
	return err
}

// idKey holds the data root's id, made once.
const idKey = "daemon/id"

func (e *engine) openStore(ctx context.Context) error {
	if err := forgotten(e.cfg); err != nil {
		return err
	}
	s, err := bolt.Open(stateFile(e.cfg), bolt.Options{Hook: e.hook, Log: e.log})
	if err != nil {
		return err
	}
	e.store = s
	e.later(s.Close)
	have, ok, err := s.Get(ctx, idKey)
	if err != nil {
		return err
	}
	if e.id = string(have.Value); !ok {
		b := make([]byte, 16)
		rand.Read(b)
		b[0] |= 1 // the first six digits mark kernel objects and must not be zero
		e.id = hex.EncodeToString(b)
		if _, err := s.Commit(ctx, store.Op{Key: idKey, Value: []byte(e.id), Guard: true}); err != nil {
			return err
		}
	}
	e.instance = e.id[:6]
	return nil
}

func (e *engine) pins() string    { return pinDir(e.cfg) }
func (e *engine) hostPin() string { return filepath.Join(e.cfg.ExecRoot, "hostns", "default") }
func (e *engine) table() string   { return "linkspan_" + e.instance }

func (e *engine) openKernel(context.Context) error {
	for _, dir := range []string{e.pins(), filepath.Dir(e.hostPin())} {
		if err := e.step("pins.prepare", func() error { return netns.Prepare(dir) }); err != nil {
			return err
		}
	}
	if seen, err := netns.Visible(e.pins()); err != nil {
		// Not even root may look at the first process everywhere.
		e.log.Debug("whether others see the network namespaces that are pinned here is not known", "folder", e.pins(), "err", err)
	} else if !seen {
		e.log.Warn("the daemon runs in a mount namespace of its own: the network namespaces that it pins below "+e.pins()+" are seen by nobody else, and the next daemon will not find them; start it in the machine's: "+
			"without PrivateMounts=, PrivateTmp=, ProtectSystem=, ProtectHome=, ReadOnlyPaths= and MountFlags= in its unit, and not under unshare -m or ip netns exec (nsenter --net=… instead)", "folder", e.pins())
	}
	if err := e.step("pins.self", func() error { return netns.PinSelf(e.hostPin()) }); err != nil {
		return err
	}
	n, err := linux.Instance(e.instance)
	if err != nil {
		return err
	}
	err = e.step("kernel.open", func() error {
		e.kernel, err = linux.New(linux.Config{Instance: n, Table: e.table(), PinDir: e.pins(), Log: e.log, Hook: e.hook,
			OnShared: func(name, prior string) error { return e.network.NoteShared(context.Background(), name, prior) }})
		return err
	})
	if err != nil {
		return err
	}
	e.later(e.kernel.Close)
	return nil
}

func (e *engine) openKeeper(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(e.cfg.ExecRoot, "keeper")
	cfg := keeper.EnsureConfig{Socket: filepath.Join(dir, "keeper.sock"), Dir: dir, Exe: exe, Name: e.instance, Version: e.Version, Logger: e.log}
	if e.keeper, _, err = keeper.Ensure(ctx, cfg); err != nil {
		return err
	}
	e.keeper.OnStdinClosed(func(id string) {
		if e.containers != nil {
			e.containers.StdinClosed(id)
		}
	})
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.keeper.Supervise(ctx, cfg, func(ctx context.Context) {
			if e.containers == nil {
				return
			}
			e.containers.KeeperReplaced(ctx)
			e.span.encryption.manager.Kick()
			if err := e.network.Hold(ctx); err != nil {
				e.log.Error("host ports or names are not held again", "err", err)
			}
		})
	}()
	e.unsupervise = func() { stop(); <-done }
	e.later(func() error { e.unsupervise(); return e.keeper.Close() })
	return nil
}

func (e *engine) openContainerd(ctx context.Context) (err error) {
	e.containerd, err = containerd.Find(ctx, containerd.Config{Address: e.cfg.Containerd, Log: e.log,
		Root: filepath.Join(e.cfg.DataRoot, "containerd"), State: filepath.Join(e.cfg.ExecRoot, "containerd")})
	if err != nil {
		return err
	}
	e.later(func() error { e.containerd.Leave(); return nil })
	if e.client, err = ctd.New(e.containerd.Address, ctd.WithTimeout(10*time.Second)); err != nil {
		return fmt.Errorf("containerd at %s: %w", e.containerd.Address, err)
	}
	e.later(e.client.Close)
	if e.namespace = e.cfg.ContainerdNamespace; !e.containerd.Private {
		e.namespace, err = claimContainerdNamespace(ctx, e.client.NamespaceService(), e.namespace, e.instance)
	}
	return err
}

func (e *engine) openRooms(ctx context.Context) (err error) {
	c := e.cfg
	e.images = image.New(image.Config{Client: e.client, Namespace: e.namespace, Mirrors: c.RegistryMirrors, Insecure: c.InsecureRegistries,
		MaxDownloads: c.MaxConcurrentDownloads, UserAgent: "linkspan/" + e.Version, Events: e.events, Hook: e.hook, Logger: e.log})
	if e.volumes, err = volume.New(ctx, volume.Config{Root: filepath.Join(c.DataRoot, "volumes"), Store: e.store, Events: e.events, Hook: e.hook, Logger: e.log}); err != nil {
		return err
	}
	if err := e.checkNetworkOpts(c); err != nil {
		return err
	}
	e.network, err = network.New(ctx, e.networkConfig(c))
	if err != nil {
		return err
	}
	e.containers, err = container.New(e.containerConfig())
	if err != nil {
		return err
	}
	e.images.SetUsers(e.containers)
	e.volumes.SetUsers(e.containers)
	return nil
}

// restore brings the host to what is committed, networks first: a container
// that the restart policy starts needs them.
func (e *engine) restore(ctx context.Context) error {
	// What happens while the network starts is heard, and acted upon after.
	watch, err := e.listen()
	if err != nil {
		return err
	}
	e.containers.LookAhead(ctx)
	r, err := e.network.Start(ctx)
	if err != nil {
		return err
	}
	e.beginMesh()
	e.follow(watch)
	for _, f := range r.Failures {
		e.log.Error("not as it should be: " + f.Error())
	}
	if len(r.Ops) > 0 {
		e.log.Info("the kernel was brought to what is declared", "changes", len(r.Ops)-len(r.Failures))
	}
	if err := e.images.Recover(ctx); err != nil {
		e.log.Warn("leases of interrupted image work are not ended; they end by themselves within a day", "err", err)
	}
	return e.containers.Restore(ctx)
}

// close takes leave. While containers run, the keeper stays with their streams
// and ports, and the kernel with their networks.
func (e *engine) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := e.containers.Shutdown(ctx)
	idle := true
	for _, c := range e.containers.List() {
		idle = idle && c.State.Pid == 0
	}
	if idle {
		e.unsupervise() // a keeper that was asked to go is not to be replaced
		err = errors.Join(err, e.keeper.Shutdown(ctx))
	}
	err = errors.Join(err, e.unwind())
	e.containerd.Stop()
	return err
}
