package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// engine is one daemon that speaks Docker's API, asked directly: the time of a
// CLI's start is nobody's.
type engine struct {
	name        string
	host, other string // namespaces: its own, and the other machine's
	client      *http.Client
}

// apiVersion is what both speak: dockerd 20.10's newest.
const apiVersion = "v1.41"

// start starts an engine in a machine of its own, with the images loaded.
func (w *world) start(ctx context.Context, name, archive string, env []string, cmd ...string) (*engine, error) {
	host, other, err := w.host(name)
	if err != nil {
		return nil, err
	}
	e, err := w.startAt(ctx, host, name, archive, env, cmd...)
	if e != nil {
		e.other = other
	}
	return e, err
}

// startAt starts an engine in a machine that is there.
func (w *world) startAt(ctx context.Context, host, name, archive string, env []string, cmd ...string) (*engine, error) {
	dir := filepath.Join(w.dir, name)
	if err := os.Mkdir(dir, 0o711); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "api.sock")
	args := append([]string{"nsenter", "--net=" + host, "--"}, cmd...)
	args = append(args, "--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "--host", "unix://"+socket)
	if err := w.daemon(ctx, name, socket, env, args...); err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	e := &engine{name: name, host: host, client: &http.Client{Transport: &http.Transport{DialContext: dial}}}
	w.later(func() {
		if err := e.clean(context.WithoutCancel(ctx)); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	})
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return e, e.do(ctx, http.MethodPost, "/images/load?quiet=1", "application/x-tar", f, nil)
}

// do calls the API; answer may be nil.
func (e *engine) do(ctx context.Context, method, path, kind string, body io.Reader, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker/"+apiVersion+path, body)
	if err != nil {
		return err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", e.name, err)
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s: %s %s: %s: %s", e.name, method, path, resp.Status, bytes.TrimSpace(b))
	case answer != nil:
		return json.Unmarshal(b, answer)
	}
	return nil
}

type object = map[string]any

// create makes a container. ports maps host ports to container ports.
func (e *engine) create(ctx context.Context, image, network string, ports map[int]int, cmd ...string) (id string, err error) {
	return e.createWith(ctx, "tcp", image, network, ports, cmd...)
}

// createUDP makes a container on the default bridge whose ports are UDP's.
func (e *engine) createUDP(ctx context.Context, image string, ports map[int]int, cmd ...string) (id string, err error) {
	return e.createWith(ctx, "udp", image, "bridge", ports, cmd...)
}

func (e *engine) createWith(ctx context.Context, proto, image, network string, ports map[int]int, cmd ...string) (id string, err error) {
	exposed, bindings := object{}, object{}
	for host, port := range ports {
		key := fmt.Sprintf("%d/%s", port, proto)
		exposed[key], bindings[key] = object{}, []object{{"HostPort": fmt.Sprint(host)}}
	}
	body, err := json.Marshal(object{"Image": image, "Cmd": cmd, "ExposedPorts": exposed,
		"HostConfig": object{"NetworkMode": network, "PortBindings": bindings,
			// iperf3's server sets the congestion control that its client asks for.
			"CapAdd": []string{"NET_ADMIN"}}})
	if err != nil {
		return "", err
	}
	var answer struct{ Id string }
	err = e.do(ctx, http.MethodPost, "/containers/create", "application/json", bytes.NewReader(body), &answer)
	return answer.Id, err
}

func (e *engine) run(ctx context.Context, id string) error {
	return e.do(ctx, http.MethodPost, "/containers/"+id+"/start", "", nil, nil)
}

func (e *engine) remove(ctx context.Context, id string) error {
	return e.do(ctx, http.MethodDelete, "/containers/"+id+"?force=1&v=1", "", nil, nil)
}

// place is where a running container is.
type place struct {
	id   string
	pid  int // of its first process
	addr netip.Addr
}

// ns is its network namespace.
func (p place) ns() string { return proc(p.pid) + "/ns/net" }

// proc is a process's folder.
func proc(pid int) string { return fmt.Sprint("/proc/", pid) }

func (e *engine) place(ctx context.Context, id string) (place, error) {
	var c struct {
		State           struct{ Pid int }
		NetworkSettings struct{ IPAddress netip.Addr }
	}
	err := e.do(ctx, http.MethodGet, "/containers/"+id+"/json", "", nil, &c)
	return place{id, c.State.Pid, c.NetworkSettings.IPAddress}, err
}

// said is what a container printed, for errors.
func (e *engine) said(p place) string {
	resp, err := e.client.Get("http://docker/" + apiVersion + "/containers/" + p.id + "/logs?stdout=1&stderr=1&tail=20")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// clean removes all containers.
func (e *engine) clean(ctx context.Context) error {
	var list []struct{ Id string }
	if err := e.do(ctx, http.MethodGet, "/containers/json?all=1", "", nil, &list); err != nil {
		return err
	}
	var failed []string
	for _, c := range list {
		if err := e.remove(ctx, c.Id); err != nil {
			failed = append(failed, err.Error())
		}
	}
	slices.Sort(failed)
	if len(failed) > 0 {
		return fmt.Errorf("%s: containers stay: %s", e.name, strings.Join(failed, "; "))
	}
	return nil
}
