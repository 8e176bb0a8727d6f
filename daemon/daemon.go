// Package daemon wires the rooms into one running engine and keeps it: it is
// what `linkspan daemon` runs, with the drivers that its caller has chosen.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"

	"linkspan/api/docker"
	"linkspan/cnm"
	"linkspan/config"
	"linkspan/driver"
	"linkspan/events"
)

// Options are what a binary decides and its user cannot.
type Options struct {
	// Version of the binary. A keeper of another version is asked to replace
	// itself.
	Version string
	// Drivers are the network drivers of this daemon.
	Drivers driver.Registry
	// Networks exist besides bridge, host and none: made at the first start, and
	// never removed.
	Networks []cnm.Network
}

// Run is `dockerd` and `linkspan daemon`: it serves until it is told to stop, and
// returns the exit code. The binary must answer to `keeper` too (keeper.Run).
func Run(o Options, args []string) int {
	r, code, ok := parse(o, args)
	if !ok {
		return code
	}
	level := &slog.LevelVar{}
	level.Set(r.Config.Level())
	log := newLogger(r.Config.LogFormat, level)
	for _, w := range r.Warnings {
		log.Warn(w)
	}
	d := &daemon{Options: o, log: log, level: level}
	d.config.Store(r.Config)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := d.run(ctx); err != nil {
		log.Error("the daemon ends: " + err.Error())
		return 1
	}
	return 0
}

func newLogger(format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// daemon is one running daemon.
type daemon struct {
	Options
	log    *slog.Logger
	level  *slog.LevelVar
	config atomic.Pointer[config.Config]
	certs  *certificates // nil without TLS
}

// run serves until ctx ends, then takes leave. Order matters: whoever else is
// there is found before anything is touched, and the sockets open last, so that
// an answer means readiness.
func (d *daemon) run(ctx context.Context) (err error) {
	cfg := d.config.Load()
	for k, v := range cfg.ProxyEnv() {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	unlock, err := claimNamespace(cfg)
	if err != nil {
		return err
	}
	defer unlock()
	for _, f := range []struct{ flag, dir string }{{"data-root", cfg.DataRoot}, {"exec-root", cfg.ExecRoot}} {
		if err := os.MkdirAll(f.dir, 0o711); err != nil {
			return fmt.Errorf("%w; make the folder %s writable, or name another with --%s", err, f.dir, f.flag)
		}
	}
	// The sockets are taken before the engine starts, so that a wrong one is told
	// at once, and answered on after.
	if d.certs, err = loadCertificates(cfg); err != nil {
		return err
	}
	ls, err := listen(cfg, d.certs)
	if err != nil {
		return err
	}
	defer closeAll(ls)
	e, err := openEngine(ctx, d.Options, cfg, d.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	if err := os.WriteFile(cfg.Pidfile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return err
	}
	defer os.Remove(cfg.Pidfile)
	go d.reloads(ctx, e)
	if _, err := sdnotify.SdNotify(false, sdnotify.SdNotifyReady); err != nil {
		d.log.Warn("systemd could not be told of the readiness", "err", err)
	}
	d.log.Info("Linkspan is ready", "version", d.Version, "sockets", addresses(ls), "data", cfg.DataRoot, "instance", e.instance)
	err = docker.Serve(ctx, e.handler(d), d.log, ls...)
	sdnotify.SdNotify(false, sdnotify.SdNotifyStopping)
	return err
}

// reloads reads the configuration file again at each SIGHUP.
func (d *daemon) reloads(ctx context.Context, e *engine) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			sdnotify.SdNotify(false, sdnotify.SdNotifyReloading)
			if err := d.reload(e); err != nil {
				d.log.Error("the configuration was not reloaded: " + err.Error())
			}
			sdnotify.SdNotify(false, sdnotify.SdNotifyReady)
		}
	}
}

func (d *daemon) reload(e *engine) error {
	old := d.config.Load()
	file, err := os.ReadFile(old.ConfigFile)
	if err != nil && (!errors.Is(err, os.ErrNotExist) || old.ConfigFile != config.DefaultFile) {
		return err
	}
	ch, err := config.Reload(old, file)
	if err != nil {
		return err
	}
	if d.certs != nil {
		if err := d.certs.load(old); err != nil { // the files of the same names, perhaps renewed
			return err
		}
	}
	if err := e.containers.SetDefaultRuntime(ch.Config.DefaultRuntime); err != nil {
		return err
	}
	for _, w := range ch.Warnings {
		d.log.Warn(w)
	}
	d.config.Store(ch.Config)
	d.level.Set(ch.Config.Level())
	e.images.SetRegistries(ch.Config.RegistryMirrors, ch.Config.InsecureRegistries)
	e.events.Publish(events.Event{Type: "daemon", Action: "reload", ID: e.id, Attributes: reloaded(ch.Config)})
	d.log.Info("configuration reloaded", "changed", ch.Keys)
	return nil
}

// reloaded is what the event of a reload tells, in dockerd's names and forms.
func reloaded(c *config.Config) map[string]string {
	list := func(l []string) string {
		b, err := json.Marshal(l)
		if err != nil || len(l) == 0 {
			return "[]"
		}
		return string(b)
	}
	return map[string]string{
		"name": hostname(), "debug": strconv.FormatBool(c.Debug), "default-runtime": c.DefaultRuntime, "labels": list(c.Labels),
		"registry-mirrors": list(c.RegistryMirrors), "insecure-registries": list(c.InsecureRegistries), "live-restore": "true",
		"shutdown-timeout":         strconv.Itoa(int(c.ShutdownTimeout / time.Second)),
		"max-concurrent-downloads": strconv.Itoa(c.MaxConcurrentDownloads), "max-download-attempts": strconv.Itoa(c.MaxDownloadAttempts),
		"default-shm-size": strconv.FormatInt(c.DefaultShmSize, 10), "default-ipc-mode": c.DefaultIPCMode,
	}
}

func hostname() string {
	n, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return n
}
