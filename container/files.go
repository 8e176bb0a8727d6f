package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
	"linkspan/container/etc"
	"linkspan/container/mounts"
	"linkspan/container/spec"
)

// writeFiles makes /etc/hosts, /etc/hostname and /etc/resolv.conf of a
// container about to start in its sandbox.
func (e *Engine) writeFiles(c *Container, sb *cnm.Sandbox) error {
	dir := e.dir(c.ID)
	if err := os.MkdirAll(dir, 0o710); err != nil {
		return err
	}
	if en, err := e.find(c.ID); err == nil {
		en.files.Lock()
		defer en.files.Unlock()
	}
	name := c.Config.Hostname
	if err := e.step("files.hostname", func() error { return etc.Write(filepath.Join(dir, etc.HostnameFile), []byte(name+"\n")) }); err != nil {
		return err
	}
	if c.Target != "" {
		return e.shareFiles(c, dir)
	}
	hosts, err := e.hosts(c, sb)
	if err != nil {
		return err
	}
	if err := e.step("files.hosts", func() error { return etc.WriteHosts(dir, hosts) }); err != nil {
		return err
	}
	content, err := e.resolvConf(c, sb)
	if err != nil {
		return err
	}
	return e.step("files.resolv", func() error { return etc.WriteResolv(dir, content) })
}

// step does something outside of the store between two fail points.
func (e *Engine) step(point string, do func() error) error {
	e.cfg.Hook(point + ".before")
	err := do()
	e.cfg.Hook(point + ".after")
	return err
}

// refreshFiles brings the files of a running container to what its sandbox is
// now. Whatever somebody wrote into them stays.
func (e *Engine) refreshFiles(en *entry) {
	en.files.Lock()
	defer en.files.Unlock()
	c := en.load()
	sb, ok := e.cfg.Network.Sandbox(c.ID)
	if !ok || c.Target != "" || !c.State.Phase.running() && !c.State.Starting {
		return
	}
	dir := e.dir(c.ID)
	if _, err := os.Stat(filepath.Join(dir, etc.HostsFile)); errors.Is(err, fs.ErrNotExist) {
		return // its start is about to write them
	}
	hosts, err := e.hosts(c, sb)
	if err == nil {
		err = e.step("files.hosts", func() error { return etc.RewriteHosts(dir, hosts) })
	}
	if err != nil {
		e.log.Error("/etc/hosts of a running container is out of date", "container", c.Name, "error", err)
	}
	content, err := e.resolvConf(c, sb)
	if err == nil {
		err = e.step("files.resolv", func() error { return etc.WriteResolv(dir, content) })
	}
	if err != nil {
		e.log.Error("/etc/resolv.conf of a running container is out of date", "container", c.Name, "error", err)
	}
}

// shareFiles gives a container in another's sandbox that one's files.
func (e *Engine) shareFiles(c *Container, dir string) error {
	err := e.step("files.share", func() error { return etc.Share(e.dir(c.Target), dir) })
	if errors.Is(err, fs.ErrNotExist) {
		// The owner is gone; what was shared with it is still here.
		if _, mine := os.Stat(filepath.Join(dir, etc.HostsFile)); mine == nil {
			return nil
		}
	}
	return err
}

// dnsWish is what the container says of names, and where it says nothing, the
// daemon.
func (e *Engine) dnsWish(hc *apicontainer.HostConfig) etc.Wish {
	d := e.defaults.Load()
	w := etc.Wish{DNS: hc.DNS, Search: hc.DNSSearch, Options: hc.DNSOptions}
	if len(w.DNS) == 0 {
		w.DNS = d.DNS
	}
	if len(w.Search) == 0 {
		w.Search = d.DNSSearch
	}
	if len(w.Options) == 0 {
		w.Options = d.DNSOptions
	}
	return w
}

// searchDomains are those of the container's resolv.conf.
func (e *Engine) searchDomains(hc *apicontainer.HostConfig) []string {
	w := e.dnsWish(hc)
	var host etc.Resolv
	if len(w.Search) == 0 {
		raw, err := e.cfg.HostResolv.Read(hc.NetworkMode.IsHost())
		if err != nil {
			return nil // its start says so
		}
		host = etc.ParseResolv(raw)
	}
	return host.Override(w).Search
}

func (e *Engine) resolvConf(c *Container, sb *cnm.Sandbox) ([]byte, error) {
	w := e.dnsWish(c.HostConfig)
	host := c.HostConfig.NetworkMode.IsHost()
	raw, err := e.cfg.HostResolv.Read(host)
	if err != nil {
		return nil, fmt.Errorf("the host's resolv.conf: %w", err)
	}
	if host {
		return etc.ParseResolv(raw).ForHost(w, raw), nil
	}
	if sb.Resolver {
		return etc.ParseResolv(raw).Internal(w), nil
	}
	v6 := false
	for _, a := range addresses(sb) {
		v6 = v6 || a.Is6()
	}
	return etc.ParseResolv(raw).For(w, v6), nil
}

// fileMounts are the binds of these files.
func (e *Engine) fileMounts(c *Container) []spec.Mount {
	dir := e.dir(c.ID)
	var out []spec.Mount
	for _, n := range []string{etc.ResolvFile, etc.HostnameFile, etc.HostsFile} {
		out = append(out, spec.Mount{Type: mounts.Bind, Source: filepath.Join(dir, n), Destination: "/etc/" + n, ReadOnly: c.HostConfig.ReadonlyRootfs})
	}
	return out
}
