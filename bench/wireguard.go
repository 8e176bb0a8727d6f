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

	"linkspan/netns"
	"linkspan/probe"
	"linkspan/wireguard"
	"linkspan/wireguard/kernel"
)

// handMTU is what fits into WireGuard on a wire of 1500 bytes; with VXLAN in it, 50 less.
const handMTU = 1440

// byWireGuard makes two sandboxes behind bridges whose subnets are routed into a WireGuard
// device, as flannel's backend wireguard does, or into a VXLAN device whose packets go
// through it. The device is of the kind that the engine has: the kernel's, or the
// library's own program (wireguard-go).
func (s *span) byWireGuard(ctx context.Context, vxlan bool) (line, error) {
	second, br, port := 246, "hand2", 52000
	if vxlan {
		second, br, port = 247, "hand3", 52001
	}
	devices, err := s.bareWireGuard(ctx, second, port)
	if err != nil {
		return line{}, err
	}
	var inside [2]string
	var errs []error
	for i, machine := range s.machines {
		m, other := filepath.Base(machine), 1-i
		inside[i] = machine + "-" + br
		if err := netns.Create(inside[i]); err != nil {
			return line{}, err
		}
		s.world.later(func() { _ = netns.Remove(inside[i]) })
		in := filepath.Base(inside[i])
		addr := func(host, last int) string { return fmt.Sprintf("10.%d.%d.%d", second, host+1, last) }
		inner := func(host int) string { return fmt.Sprintf("10.%d.0.%d", second, host+1) }
		mac := func(host int) string { return fmt.Sprintf("02:00:00:00:77:%02x", host+1) }
		mtu := fmt.Sprint(handMTU)
		if vxlan {
			mtu = fmt.Sprint(handMTU - 50)
		}
		run := func(args ...string) { errs = append(errs, ip(append([]string{"-n", m}, args...)...)) }
		run("link", "set", devices[i], "mtu", fmt.Sprint(handMTU), "up")
		run("addr", "add", inner(i)+"/24", "dev", devices[i])
		run("link", "add", br, "mtu", mtu, "type", "bridge")
		run("addr", "add", addr(i, 1)+"/24", "dev", br)
		run("link", "set", br, "up")
		run("link", "add", "v"+br, "mtu", mtu, "type", "veth", "peer", "name", "eth0", "mtu", mtu, "netns", in)
		run("link", "set", "v"+br, "master", br, "up")
		errs = append(errs, ip("-n", in, "addr", "add", addr(i, 2)+"/24", "dev", "eth0"), ip("-n", in, "link", "set", "eth0", "up"),
			ip("-n", in, "link", "set", "lo", "up"), ip("-n", in, "route", "add", "default", "via", addr(i, 1)))
		if !vxlan {
			run("route", "add", addr(other, 0)+"/24", "dev", devices[i])
			continue
		}
		run("link", "add", "handvx", "mtu", mtu, "address", mac(i), "type", "vxlan", "id", "77", "local", inner(i), "dev", devices[i], "dstport", "4790", "nolearning")
		run("addr", "add", addr(i, 0)+"/32", "dev", "handvx")
		run("link", "set", "handvx", "up")
		run("route", "add", addr(other, 0)+"/24", "via", addr(other, 0), "dev", "handvx", "onlink")
		run("neigh", "add", addr(other, 0), "lladdr", mac(other), "dev", "handvx", "nud", "permanent")
		if out, err := exec.CommandContext(ctx, "bridge", "-n", m, "fdb", "add", mac(other), "dev", "handvx", "dst", inner(other), "self", "permanent").CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("bridge fdb: %w: %s", err, out))
		}
	}
	errs = append(errs, s.listen(ctx, inside[1]))
	return line{inside[0], netip.MustParseAddr(fmt.Sprintf("10.%d.2.2", second))}, errors.Join(errs...)
}

// bareWireGuard makes a device on each machine that lets 10.SECOND.0.0/16 through.
func (s *span) bareWireGuard(ctx context.Context, second, port int) (devices [2]string, err error) {
	var keys [2]wireguard.PrivateKey
	for i := range keys {
		if keys[i], err = wireguard.NewPrivateKey(); err != nil {
			return devices, err
		}
	}
	missing := probe.WireGuard.Check()
	exe := filepath.Join(s.world.dir, "wireguard-go")
	if missing != nil {
		s.table.note("WireGuard runs in user space on both sides: %v", missing)
		if err := tool(ctx, "go", "build", "-buildvcs=false", "-o", exe, "golang.zx2c4.com/wireguard"); err != nil {
			return devices, err
		}
	}
	for i, machine := range s.machines {
		other := 1 - i
		devices[i] = fmt.Sprintf("h%d%d%d", second%10, i, os.Getpid()%1_000_000) // its socket is in a folder of the machine's
		c := wireguard.Config{Name: devices[i], PrivateKey: keys[i], Port: uint16(port), Peers: []wireguard.Peer{{
			PublicKey: keys[other].Public(), Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(other + 1)}), uint16(port)),
			Allowed: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second)}), 16)},
		}}}
		if missing == nil {
			err = errors.Join(ip("-n", filepath.Base(machine), "link", "add", c.Name, "type", "wireguard"),
				within(machine, func() error { return kernel.New().Set(ctx, c) }))
		} else {
			err = s.program(ctx, exe, machine, c)
		}
		if err != nil {
			return devices, err
		}
	}
	return devices, nil
}

// program runs the library's program with one peer.
func (s *span) program(ctx context.Context, exe, machine string, c wireguard.Config) error {
	cmd := exec.Command("nsenter", "--net="+machine, "--", exe, "-f", c.Name)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	s.world.later(func() { _ = cmd.Process.Signal(syscall.SIGTERM); <-ended })
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
	if _, err := fmt.Fprintf(conn, "set=1\nprivate_key=%s\nlisten_port=%d\npublic_key=%s\nendpoint=%s\nallowed_ip=%s\n\n",
		hex.EncodeToString(private[:]), c.Port, hex.EncodeToString(p.PublicKey[:]), p.Endpoint, p.Allowed[0]); err != nil {
		return err
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	if err != nil && !errors.Is(err, io.EOF) || !strings.HasPrefix(string(answer[:n]), "errno=0") {
		return fmt.Errorf("wireguard-go refuses its configuration: %s %w", answer[:n], err)
	}
	return nil
}
