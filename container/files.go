package container

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"linkspan/cnm"
	"linkspan/container/etc"
	"linkspan/container/mounts"
	"linkspan/container/spec"
)

// hostGateways is what host-gateway stands for.
func (e *Engine) hostGateways() []netip.Addr {
	if g := e.cfg.Defaults.HostGateway; len(g) > 0 {
		return g
	}
	n, err := e.cfg.Network.Network(defaultNetwork)
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, p := range n.Pools {
		if p.Gateway.IsValid() {
			out = append(out, p.Gateway)
		}
	}
	return out
}

// writeFiles makes /etc/hosts, /etc/hostname and /etc/resolv.conf of a
// container about to start in its sandbox.
func (e *Engine) writeFiles(c *Container, sb *cnm.Sandbox) error {
	dir := e.dir(c.ID)
	if err := os.MkdirAll(dir, 0o710); err != nil {
		return err
	}
	name := c.Config.Hostname
	if err := etc.Write(filepath.Join(dir, etc.HostnameFile), []byte(name+"\n")); err != nil {
		return err
	}
	if c.Target != "" {
		return e.shareFiles(c, dir)
	}
	if err := e.writeHosts(c, sb, filepath.Join(dir, etc.HostsFile)); err != nil {
		return err
	}
	content, err := e.resolvConf(c, sb)
	if err != nil {
		return err
	}
	return etc.WriteResolv(dir, content)
}

// shareFiles gives a container in another's sandbox that one's files.
func (e *Engine) shareFiles(c *Container, dir string) error {
	err := etc.Share(e.dir(c.Target), dir)
	if errors.Is(err, fs.ErrNotExist) {
		// The owner is gone; what was shared with it is still here.
		if _, mine := os.Stat(filepath.Join(dir, etc.HostsFile)); mine == nil {
			return nil
		}
	}
	return err
}

func (e *Engine) writeHosts(c *Container, sb *cnm.Sandbox, path string) error {
	extra, err := etc.ParseExtraHosts(c.HostConfig.ExtraHosts, e.hostGateways())
	if err != nil {
		return err
	}
	if c.HostConfig.NetworkMode.IsHost() {
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the host's hosts file: %w", err)
		}
		return etc.Write(path, append(own, etc.HostLines(extra, nil, "", "")...))
	}
	return etc.Write(path, etc.Hosts(extra, addresses(sb), c.Config.Hostname, c.Config.Domainname))
}

// addresses are the sandbox's own, of its first network first.
func addresses(sb *cnm.Sandbox) (out []netip.Addr) {
	for _, ep := range sb.Endpoints {
		for _, a := range ep.Addrs {
			out = append(out, a.Addr())
		}
	}
	return out
}

func (e *Engine) resolvConf(c *Container, sb *cnm.Sandbox) ([]byte, error) {
	hc, d := c.HostConfig, &e.cfg.Defaults
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
	host := hc.NetworkMode.IsHost()
	raw, err := etc.HostResolv(host)
	if err != nil {
		return nil, fmt.Errorf("the host's resolv.conf: %w", err)
	}
	if host {
		return etc.ParseResolv(raw).ForHost(w, raw), nil
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
