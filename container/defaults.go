package container

import (
	"fmt"
	"slices"

	"linkspan/cnm"
	"linkspan/container/logs"
)

func checkLog(d Defaults) error {
	if l := d.LogConfig; l.Type != "" || len(l.Config) > 0 {
		if _, err := logs.Parse(l.Type, l.Config); err != nil {
			return fmt.Errorf("the daemon's log driver: %w", err)
		}
	}
	return nil
}

// Check says of defaults, before there is an engine, whether the log driver
// takes its options and the init program runs in a container.
func (d Defaults) Check() error {
	if d.InitPath != "" {
		if err := usableInit(d.InitPath); err != nil {
			return cnm.Invalid("init-path: %w", err)
		}
	}
	return checkLog(d)
}

// CheckDefaults says whether SetDefaults would take these.
func (e *Engine) CheckDefaults(d Defaults) error {
	if _, err := e.runtimeBinary(d.Runtime); err != nil {
		return noRuntime(d.Runtime, err)
	}
	if p := d.InitPath; p != "" && p != e.defaults.Load().InitPath {
		if err := usableInit(p); err != nil {
			return cnm.Invalid("init-path: %w", err)
		}
	}
	return checkLog(d)
}

// SetDefaults takes over the defaults that a running daemon's configuration can
// change: names, the init, the log driver, the runtime. Containers that are there
// keep what their creation wrote down; what they take from the daemon at each start,
// and the files of those that run, follow. On an error nothing is changed.
func (e *Engine) SetDefaults(d Defaults) error {
	if err := e.CheckDefaults(d); err != nil {
		return err
	}
	if err := e.SetDefaultRuntime(d.Runtime); err != nil {
		return err
	}
	next := *e.defaults.Load()
	next.DNS, next.DNSSearch, next.DNSOptions, next.HostGateway = d.DNS, d.DNSSearch, d.DNSOptions, d.HostGateway
	next.Init, next.InitPath, next.LogConfig = d.Init, d.InitPath, d.LogConfig
	was := e.defaults.Swap(&next)
	if !slices.Equal(was.DNS, next.DNS) || !slices.Equal(was.DNSSearch, next.DNSSearch) || !slices.Equal(was.DNSOptions, next.DNSOptions) ||
		!slices.Equal(was.HostGateway, next.HostGateway) {
		e.renew()
	}
	return nil
}

// renew brings the networks and files of containers that run to what the daemon and
// the host say now.
func (e *Engine) renew() {
	e.each(func(en *entry) {
		if c := en.load(); c.State.Phase.running() && c.Target == "" {
			e.bringUp(e.ctx, en)
		}
	})
}
