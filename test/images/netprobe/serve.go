package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
)

// serve listens on every target until ctx ends. "listening" is printed for
// each once it accepts, so that a test waits for a line and never for a time.
func serve(ctx context.Context, targets []string, out io.Writer) error {
	var closers []io.Closer
	shut := func() {
		for _, c := range closers {
			c.Close()
		}
	}
	var group sync.WaitGroup
	for _, target := range targets {
		proto, addr, err := split(target)
		if err != nil {
			shut()
			return err
		}
		var loop func()
		var where net.Addr
		switch proto {
		case "udp":
			conn, e := listenUDP(ctx, addr)
			if err = e; err == nil {
				closers = append(closers, conn)
				where, loop = conn.LocalAddr(), func() { serveUDP(conn) }
			}
		default:
			listener, e := listenStream(ctx, proto, addr)
			if err = e; err == nil {
				closers = append(closers, listener)
				where, loop = listener.Addr(), func() { serveStream(listener) }
			}
		}
		if err != nil {
			shut()
			return fmt.Errorf("%s: %w", target, err)
		}
		group.Add(1)
		go func() { defer group.Done(); loop() }()
		fmt.Fprintf(out, "listening %s/%s\n", proto, where)
	}
	<-ctx.Done()
	shut()
	group.Wait()
	return nil
}

func listenStream(ctx context.Context, proto, addr string) (net.Listener, error) {
	if proto == "sctp" {
		return listenSCTP(addr)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", addr)
}

func serveStream(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		go func() {
			defer conn.Close()
			if _, err := io.WriteString(conn, answer(addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr()))); err == nil {
				io.Copy(conn, conn)
			}
		}()
	}
}

// answer is the line that both protocols give.
func answer(src, dst netip.AddrPort) string {
	host, _ := os.Hostname()
	return fmt.Sprintf("src=%s dst=%s host=%s\n", plain(src), plain(dst), host)
}

// plain writes an IPv4 peer of a dual-stack socket as IPv4, and leaves out the
// zone of a link-local address: it says nothing outside this namespace.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func addrPort(a net.Addr) netip.AddrPort {
	if ap, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return ap.AddrPort()
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return ap
}
