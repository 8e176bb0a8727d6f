package daemon

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync"
	"syscall"

	"linkspan/dns"
	"linkspan/keeper"
	"linkspan/wireguard"
)

// failPoint is the crash tests' way in: with LINKSPAN_FAIL_AT=REGEXP the process
// kills itself at the first point whose beginning matches (with LINKSPAN_FAIL_NTH=N
// at the Nth) after the file LINKSPAN_FAIL_ARMED exists, and with
// LINKSPAN_FAIL_LOG=FILE it writes down the points it passes. In production none is
// set and no point costs anything.
func failPoint() (func(point string), error) {
	at, armed, path := os.Getenv("LINKSPAN_FAIL_AT"), os.Getenv("LINKSPAN_FAIL_ARMED"), os.Getenv("LINKSPAN_FAIL_LOG")
	if at == "" && path == "" {
		return nil, nil
	}
	match, err := regexp.Compile("^(?:" + at + ")")
	if err != nil {
		return nil, fmt.Errorf("LINKSPAN_FAIL_AT: %w", err)
	}
	nth := 1
	if n := os.Getenv("LINKSPAN_FAIL_NTH"); n != "" {
		if nth, err = strconv.Atoi(n); err != nil {
			return nil, fmt.Errorf("LINKSPAN_FAIL_NTH: %w", err)
		}
	}
	var mu sync.Mutex
	return func(point string) {
		mu.Lock()
		defer mu.Unlock()
		if armed != "" {
			if _, err := os.Stat(armed); err != nil {
				return
			}
		}
		if path != "" {
			if f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
				fmt.Fprintln(f, point)
				f.Close()
			}
		}
		if at == "" || !match.MatchString(point) {
			return
		}
		if nth--; nth == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal takes effect before anything else happens here
		}
	}, nil
}

// step does something outside of the rooms between two fail points.
func (e *engine) step(point string, do func() error) error {
	if e.hook == nil {
		return do()
	}
	e.hook(point + ".before")
	err := do()
	e.hook(point + ".after")
	return err
}

// points is the keeper with fail points around what changes it.
type points struct {
	keeper.Keeper
	hook func(point string)
}

func (p points) around(point string, do func() error) error {
	p.hook("keeper." + point + ".before")
	err := do()
	p.hook("keeper." + point + ".after")
	return err
}

func (p points) Reserve(ctx context.Context, reqs []keeper.PortRequest) error {
	return p.around("reserve", func() error { return p.Keeper.Reserve(ctx, reqs) })
}

func (p points) Release(ctx context.Context, owner string) error {
	return p.around("release", func() error { return p.Keeper.Release(ctx, owner) })
}

func (p points) Retarget(ctx context.Context, reqs []keeper.PortRequest) error {
	return p.around("retarget", func() error { return p.Keeper.Retarget(ctx, reqs) })
}

func (p points) OpenStream(ctx context.Context, s keeper.StreamSpec) (out keeper.Stream, err error) {
	err = p.around("stream.open", func() error { out, err = p.Keeper.OpenStream(ctx, s); return err })
	return out, err
}

func (p points) Started(ctx context.Context, id string) error {
	return p.around("stream.started", func() error { return p.Keeper.Started(ctx, id) })
}

func (p points) CloseStream(ctx context.Context, id string) error {
	return p.around("stream.close", func() error { return p.Keeper.CloseStream(ctx, id) })
}

func (p points) CloseStdin(ctx context.Context, id string) error {
	return p.around("stdin.close", func() error { return p.Keeper.CloseStdin(ctx, id) })
}

func (p points) Attach(ctx context.Context, id string, o keeper.AttachOptions, client *os.File, ended func(bool)) error {
	return p.around("attach", func() error { return p.Keeper.Attach(ctx, id, o, client, ended) })
}

func (p points) SetView(ctx context.Context, v dns.View, sockets *dns.Sockets) error {
	return p.around("view.set", func() error { return p.Keeper.SetView(ctx, v, sockets) })
}

func (p points) RemoveView(ctx context.Context, sandbox string) error {
	return p.around("view.remove", func() error { return p.Keeper.RemoveView(ctx, sandbox) })
}

func (p points) SetNames(ctx context.Context, zone string, records []dns.Record, whole bool) error {
	return p.around("names.set", func() error { return p.Keeper.SetNames(ctx, zone, records, whole) })
}

func (p points) RemoveNames(ctx context.Context, zone string, endpoints []string) error {
	return p.around("names.remove", func() error { return p.Keeper.RemoveNames(ctx, zone, endpoints) })
}

func (p points) KeepZones(ctx context.Context, zones []string) error {
	return p.around("zones.keep", func() error { return p.Keeper.KeepZones(ctx, zones) })
}

func (p points) SetTunnel(ctx context.Context, c wireguard.Config) error {
	return p.around("tunnel.set", func() error { return p.Keeper.SetTunnel(ctx, c) })
}

func (p points) RemoveTunnel(ctx context.Context, name string) error {
	return p.around("tunnel.remove", func() error { return p.Keeper.RemoveTunnel(ctx, name) })
}

// hooked puts fail points around the keeper when there are any.
func hooked(k keeper.Keeper, hook func(point string)) keeper.Keeper {
	if hook == nil {
		return k
	}
	return points{k, hook}
}
