package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"linkspan/probe"
	"linkspan/wireguard"
	"linkspan/wireguard/kernel"
)

// inner is a machine's address in the tunnel: not one of the network's, whose packets leave
// it with another source.
func (h hand) inner(machine int) string { return fmt.Sprintf("192.168.%d.%d", h.second, machine+1) }

// wireGuard makes a device on each machine that lets the whole network through, as
// flannel's backend wireguard does. It is of the kind that the engine has: the kernel's,
// or the library's own program (wireguard-go).
func (h hand) wireGuard(ctx context.Context, port int) (devices [2]string, err error) {
	var keys [2]wireguard.PrivateKey
	for i := range keys {
		if keys[i], err = wireguard.NewPrivateKey(); err != nil {
			return devices, err
		}
	}
	missing := probe.WireGuard.Check()
	exe := filepath.Join(h.world.dir, "wireguard-go")
	if missing != nil {
		h.table.note("WireGuard runs in user space on both sides: %v", missing)
		if err := tool(ctx, "go", "build", "-buildvcs=false", "-o", exe, "golang.zx2c4.com/wireguard"); err != nil {
			return devices, err
		}
	}
	for i, machine := range h.hands {
		other := 1 - i
		devices[i] = fmt.Sprintf("h%d%d%d", h.second%10, i, os.Getpid()%1_000_000) // its socket is in a folder of the machine's
		c := wireguard.Config{Name: devices[i], PrivateKey: keys[i], Port: uint16(port), Peers: []wireguard.Peer{{
			PublicKey: keys[other].Public(), Endpoint: netip.AddrPortFrom(netip.MustParseAddr(outer(other)), uint16(port)),
			Allowed: []netip.Prefix{netip.MustParsePrefix(h.cluster()), netip.MustParsePrefix(h.inner(other) + "/32")},
		}}}
		if missing == nil {
			err = errors.Join(h.on(i, "link", "add", c.Name, "type", "wireguard"),
				within(machine, func() error { return kernel.New().Set(ctx, c) }))
		} else {
			err = h.program(ctx, exe, machine, c)
		}
		if err := errors.Join(err, h.on(i, "link", "set", c.Name, "mtu", fmt.Sprint(1500-overWireGuard), "up"),
			h.on(i, "addr", "add", h.inner(i)+"/24", "dev", c.Name)); err != nil {
			return devices, err
		}
	}
	return devices, nil
}

// program runs the library's program with one peer.
func (h hand) program(ctx context.Context, exe, machine string, c wireguard.Config) error {
	cmd := exec.Command("nsenter", "--net="+machine, "--", exe, "-f", c.Name)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
	// As a service manager would start it, and as the keeper is: processes of one session
	// share one portion of a busy machine's time (sched(7), autogroup), and this one would
	// have its client's.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	h.world.later(func() { _ = cmd.Process.Signal(syscall.SIGTERM); <-ended })
	var conn net.Conn
	var err error
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err = net.Dial("unix", "/var/run/wireguard/"+c.Name+".sock"); err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("wireguard-go: %w", err)
	}
	defer conn.Close()
	private, p := c.PrivateKey.Bytes(), c.Peers[0]
	if _, err := fmt.Fprintf(conn, "set=1\nprivate_key=%s\nlisten_port=%d\npublic_key=%s\nendpoint=%s\nallowed_ip=%s\nallowed_ip=%s\n\n",
		hex.EncodeToString(private[:]), c.Port, hex.EncodeToString(p.PublicKey[:]), p.Endpoint, p.Allowed[0], p.Allowed[1]); err != nil {
		return err
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	if err != nil && !errors.Is(err, io.EOF) || !strings.HasPrefix(string(answer[:n]), "errno=0") {
		return fmt.Errorf("wireguard-go refuses its configuration: %s %w", answer[:n], err)
	}
	return nil
}
