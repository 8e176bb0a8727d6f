// Package lab builds small networks for tests: hosts, wires and switches, each a
// network namespace pinned below /run/netns under a name of the test's own, and
// compares afterwards that nothing was left behind.
//
// It works through ip(8), nft(8) and ss(8) on purpose: what checks the engine should
// not share the engine's code.
package lab

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/netns"
	"linkspan/probe"
)

// pinDir is where ip-netns(8) looks, so that a person can look too.
const pinDir = "/run/netns"

// Lab is one test's network. It is taken down by the test's cleanup.
type Lab struct {
	t     testing.TB
	id    string
	hosts []*Host
}

// New makes an empty lab, or skips the test where there are no namespaces.
func New(t testing.TB) *Lab {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS, probe.Veth, probe.Bridge)
	id := make([]byte, 3)
	if _, err := rand.Read(id); err != nil {
		t.Fatal(err)
	}
	l := &Lab{t: t, id: hex.EncodeToString(id)}
	t.Cleanup(func() {
		for _, h := range l.hosts {
			if err := netns.Remove(h.NS); err != nil {
				t.Errorf("lab: %v", err)
			}
		}
	})
	return l
}

// Host is one machine: a network namespace with its loopback up.
type Host struct {
	Name string
	// NS is the path of its pin.
	NS    string
	lab   *Lab
	ports int // interfaces plugged so far
}

// Host adds a machine.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	h := &Host{Name: name, NS: filepath.Join(pinDir, "lab"+l.id+"-"+name), lab: l}
	if err := netns.Create(h.NS); err != nil {
		l.t.Fatalf("lab: %v", err)
	}
	l.hosts = append(l.hosts, h)
	return h
}

// Hosts returns all machines, switches included.
func (l *Lab) Hosts() []*Host { return l.hosts }

// nsName is the pin's name for `ip -n`.
func (h *Host) nsName() string { return filepath.Base(h.NS) }

// Command prepares a program in the host's network namespace; everything else
// (mounts, processes) is the test's.
func (h *Host) Command(cmd ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + h.NS, "--"}, cmd...)...)
}

// Run executes a program to its end and returns what it printed; a failure ends
// the test.
func (h *Host) Run(cmd ...string) string {
	h.lab.t.Helper()
	out, err := h.Try(cmd...)
	if err != nil {
		h.lab.t.Fatalf("lab: %v", err)
	}
	return out
}

// Try is Run for programs that may fail.
func (h *Host) Try(cmd ...string) (string, error) {
	var out bytes.Buffer
	c := h.Command(cmd...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("on %s: %s: %w\n%s", h.Name, strings.Join(cmd, " "), err, out.String())
	}
	return out.String(), nil
}

// Do runs fn on a thread inside the host; see netns.Do.
func (h *Host) Do(fn func() error) error { return netns.Do(h.NS, fn) }

// Addr gives an interface addresses, usable at once, and brings it up.
func (h *Host) Addr(dev string, addrs ...netip.Prefix) {
	h.lab.t.Helper()
	for _, a := range addrs {
		h.Run("ip", "addr", "add", a.String(), "dev", dev, "nodad")
	}
	h.Run("ip", "link", "set", dev, "up")
}

// Route adds a route through a gateway; dst "default" or a prefix.
func (h *Host) Route(dst string, via netip.Addr) {
	h.lab.t.Helper()
	fam := "-4"
	if via.Is6() {
		fam = "-6"
	}
	h.Run("ip", fam, "route", "add", dst, "via", via.String())
}

// Sysctl sets a kernel parameter of the host, dots or slashes.
func (h *Host) Sysctl(name, value string) {
	h.lab.t.Helper()
	h.Run("sysctl", "-qw", name+"="+value)
}

// Router lets the host forward between its wires.
func (h *Host) Router() *Host {
	h.lab.t.Helper()
	h.Sysctl("net.ipv4.ip_forward", "1")
	h.Sysctl("net.ipv6.conf.all.forwarding", "1")
	return h
}
