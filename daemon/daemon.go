// Package daemon wires the rooms into one running engine and keeps it: it is
// what `linkspan daemon` runs, with the drivers that its caller has chosen.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"

	"linkspan/api/docker"
	"linkspan/cnm"
	"linkspan/config"
	"linkspan/driver"
	"linkspan/metrics"
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
	meter  *meter
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
	scraped, err := listenMetrics(cfg)
	if err != nil {
		return err
	}
	defer scraped.close()
	// What is read and compared at the start is garbage right after: collecting it before
	// the first answer would only make that later.
	collect := debug.SetGCPercent(400)
	e, err := openEngine(ctx, d.Options, cfg, d.log)
	debug.SetGCPercent(collect)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	d.meter = newMeter(metrics.New(e.sources()), d.log, scraped)
	defer d.meter.close()
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

func hostname() string {
	n, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return n
}
