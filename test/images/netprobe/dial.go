package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// dialer is one client run: one connection (or one UDP socket, so one source
// port), count messages, each of which must be answered in time.
type dialer struct {
	timeout  time.Duration
	bind     string
	count    int
	interval time.Duration
}

var timeUntil = time.Until

func (d dialer) dial(ctx context.Context, target string, out io.Writer) error {
	proto, addr, err := split(target)
	if err != nil {
		return err
	}
	conn, err := d.connect(ctx, proto, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if proto == "udp" {
		return d.datagrams(ctx, conn, out)
	}
	return d.stream(ctx, conn, out)
}

func (d dialer) connect(ctx context.Context, proto, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	if proto == "sctp" {
		return dialSCTP(ctx, addr, d.bind)
	}
	var config net.Dialer
	if d.bind != "" {
		local, err := localAddr(d.bind)
		if err != nil {
			return nil, err
		}
		if proto == "udp" {
			config.LocalAddr = net.UDPAddrFromAddrPort(local)
		} else {
			config.LocalAddr = net.TCPAddrFromAddrPort(local)
		}
	}
	return config.DialContext(ctx, proto, addr)
}

// stream prints the server's first line, then one echo per further message.
func (d dialer) stream(ctx context.Context, conn net.Conn, out io.Writer) error {
	lines := bufio.NewReader(conn)
	for i := range d.count {
		conn.SetDeadline(time.Now().Add(d.timeout))
		if i > 0 {
			if err := pause(ctx, d.interval); err != nil {
				return err
			}
			conn.SetDeadline(time.Now().Add(d.timeout))
			if _, err := fmt.Fprintf(conn, "message %d\n", i); err != nil {
				return err
			}
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
		io.WriteString(out, line)
	}
	return nil
}

// datagrams goes on after a lost answer: the point of several is often that
// the path comes back. The last one decides.
func (d dialer) datagrams(ctx context.Context, conn net.Conn, out io.Writer) error {
	var last error
	buf := make([]byte, 64<<10)
	for i := range d.count {
		if i > 0 {
			if err := pause(ctx, d.interval); err != nil {
				return err
			}
		}
		conn.SetDeadline(time.Now().Add(d.timeout))
		message := fmt.Sprintf("message %d", i)
		if _, last = conn.Write([]byte(message)); last != nil {
			fmt.Fprintf(out, "%s\n", verdict(last))
			continue
		}
		for {
			var n int
			if n, last = conn.Read(buf); last != nil {
				fmt.Fprintf(out, "%s\n", verdict(last))
				break
			}
			line, rest, _ := strings.Cut(string(buf[:n]), "\n")
			if rest == message { // else a late answer to an earlier one
				fmt.Fprintln(out, line)
				break
			}
		}
	}
	return last
}

func localAddr(s string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, 0), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return ap, fmt.Errorf("local address %q: %w", s, err)
	}
	return ap, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
