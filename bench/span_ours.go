package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// verb runs a command of ours on a machine.
func (s *span) verb(ctx context.Context, machine int, args ...string) (string, error) {
	c := exec.CommandContext(ctx, s.world.binary, args...)
	c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+filepath.Join(s.world.dir, fmt.Sprint("span", machine+1), "api.sock"))
	out, err := c.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("linkspan %s: %w", strings.Join(args[:2], " "), err)
	}
	return string(out), nil
}

// byUs makes a network and a container on each machine.
func (s *span) byUs(ctx context.Context, driver string, options ...string) (line, error) {
	name := strings.Join(append([]string{driver}, options...), "-")
	opts := object{}
	for _, o := range options {
		opts[o] = ""
	}
	body, err := json.Marshal(object{"Name": name, "Driver": driver, "Options": opts})
	if err != nil {
		return line{}, err
	}
	if err := s.engines[0].do(ctx, http.MethodPost, "/networks/create", "application/json", bytes.NewReader(body), nil); err != nil {
		return line{}, err
	}
	var p [2]place
	for i, e := range s.engines {
		if p[i], err = e.member(ctx, name); err != nil {
			return line{}, err
		}
	}
	l := line{from: p[0].ns(), to: p[1].addr}
	if l.server, err = s.listen(ctx, p[1].ns()); err != nil {
		return line{}, err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := within(l.from, func() error {
			w, err := dial(netip.AddrPortFrom(l.to, probePort))
			if err == nil {
				w.close()
			}
			return err
		})
		if err == nil || time.Now().After(deadline) {
			return l, err
		}
	}
}

// member starts a container that rests on a network, as soon as the engine knows the
// network.
func (e *engine) member(ctx context.Context, network string) (p place, err error) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err = e.do(ctx, http.MethodGet, "/networks/"+network, "", nil, nil); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		return p, err
	}
	if p.id, err = e.create(ctx, "pause", network, nil); err == nil {
		err = e.run(ctx, p.id)
	}
	if err != nil {
		return p, err
	}
	var c struct {
		State           struct{ Pid int }
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress netip.Addr }
		}
	}
	err = e.do(ctx, http.MethodGet, "/containers/"+p.id+"/json", "", nil, &c)
	p.pid, p.addr = c.State.Pid, c.NetworkSettings.Networks[network].IPAddress
	return p, err
}
