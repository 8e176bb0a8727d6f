package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"

	"linkspan/config"
	"linkspan/events"
)

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
			if err := d.reload(ctx, e); err != nil {
				d.log.Error("the configuration was not reloaded: " + err.Error())
			}
			sdnotify.SdNotify(false, sdnotify.SdNotifyReady)
		}
	}
}

// reload takes the file over as a whole or not at all: everything that can be
// refused is asked first, and the networks, which decide by what the host and its
// containers are, come before what cannot fail any more.
func (d *daemon) reload(ctx context.Context, e *engine) error {
	old := d.config.Load()
	file, err := os.ReadFile(old.ConfigFile)
	if err != nil && (!errors.Is(err, os.ErrNotExist) || old.ConfigFile != config.DefaultFile) {
		return err
	}
	ch, err := config.Reload(old, file)
	if err != nil {
		return err
	}
	now, defaults := ch.Config, containerDefaults(ch.Config)
	if err := errors.Join(e.checkNetworkOpts(now), e.containers.CheckDefaults(defaults)); err != nil {
		return err
	}
	certs, err := loadCertificates(old) // the files of the same names, perhaps renewed
	if err != nil {
		return err
	}
	scraped, err := d.meter.prepare(now)
	if err != nil {
		return err
	}
	r, err := e.network.Reconfigure(ctx, e.networkConfig(now))
	if err != nil {
		scraped.close()
		return err
	}
	d.meter.move(scraped)
	for _, f := range r.Failures {
		d.log.Error("not as it should be: " + f.Error())
	}
	if d.certs != nil {
		d.certs.current.Store(certs.current.Load())
	}
	d.config.Store(now)
	d.level.Set(now.Level())
	e.images.SetRegistries(now.RegistryMirrors, now.InsecureRegistries)
	if err := e.containers.SetDefaults(defaults); err != nil {
		d.log.Error("defaults of containers: " + err.Error()) // an init that went away since
	}
	for _, w := range ch.Warnings {
		d.log.Warn(w)
	}
	if old.IPForward && !now.IPForward {
		d.log.Warn("ip-forward=false: forwarding is not turned on any more, and stays as it is now; what Linkspan turned on is given back when it is uninstalled")
	}
	e.events.Publish(events.Event{Type: "daemon", Action: "reload", ID: e.id, Attributes: reloaded(now)})
	d.log.Info("configuration reloaded", "changed", ch.Keys)
	return nil
}

// reloaded is what the event of a reload tells: what a reload can change, in the
// file's words, and what dockerd tells in its own.
func reloaded(c *config.Config) map[string]string {
	list := func(l []string) string {
		b, err := json.Marshal(l)
		if err != nil || len(l) == 0 {
			return "[]"
		}
		return string(b)
	}
	out := c.Reloadable()
	maps.Copy(out, map[string]string{
		"name": hostname(), "debug": strconv.FormatBool(c.Debug), "default-runtime": c.DefaultRuntime, "labels": list(c.Labels),
		"registry-mirrors": list(c.RegistryMirrors), "insecure-registries": list(c.InsecureRegistries), "live-restore": "true",
		"shutdown-timeout":         strconv.Itoa(int(c.ShutdownTimeout / time.Second)),
		"max-concurrent-downloads": strconv.Itoa(c.MaxConcurrentDownloads), "max-download-attempts": strconv.Itoa(c.MaxDownloadAttempts),
		"default-shm-size": strconv.FormatInt(c.DefaultShmSize, 10), "default-ipc-mode": c.DefaultIPCMode,
	})
	return out
}
