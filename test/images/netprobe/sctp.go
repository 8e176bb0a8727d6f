package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// SCTP in its one-to-one style behaves as a stream socket (sctp(7), RFC 6458
// section 4): the net package adopts such a descriptor as if it were TCP's.
// A kernel without SCTP answers EPROTONOSUPPORT, which verdict names.
func sctpSocket(addr netip.AddrPort) (int, syscall.Sockaddr, error) {
	domain, sa := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()})
	if addr.Addr().Unmap().Is4() {
		domain, sa = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().Unmap().As4()}
	}
	fd, err := syscall.Socket(domain, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 132) // IPPROTO_SCTP
	if err != nil {
		return -1, nil, fmt.Errorf("sctp socket: %w", err)
	}
	return fd, sa, nil
}

func resolve(addr string) (netip.AddrPort, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ap := a.AddrPort()
	if !ap.Addr().IsValid() {
		ap = netip.AddrPortFrom(netip.IPv6Unspecified(), ap.Port())
	}
	return ap, nil
}

func listenSCTP(addr string) (net.Listener, error) {
	ap, err := resolve(addr)
	if err != nil {
		return nil, err
	}
	fd, sa, err := sctpSocket(ap)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "sctp")
	defer file.Close() // FileListener duplicates
	if err := syscall.Bind(fd, sa); err != nil {
		return nil, fmt.Errorf("sctp bind %s: %w", ap, err)
	}
	if err := syscall.Listen(fd, 128); err != nil {
		return nil, fmt.Errorf("sctp listen %s: %w", ap, err)
	}
	return net.FileListener(file)
}

func dialSCTP(ctx context.Context, addr, bind string) (net.Conn, error) {
	ap, err := resolve(addr)
	if err != nil {
		return nil, err
	}
	fd, sa, err := sctpSocket(ap)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "sctp")
	defer file.Close()
	if bind != "" {
		local, err := localAddr(bind)
		if err != nil {
			return nil, err
		}
		other, from, err := sctpSocket(local)
		if err != nil {
			return nil, err
		}
		syscall.Close(other)
		if err := syscall.Bind(fd, from); err != nil {
			return nil, fmt.Errorf("sctp bind %s: %w", bind, err)
		}
	}
	// A blocking connect heeds SO_SNDTIMEO (socket(7)).
	if deadline, ok := ctx.Deadline(); ok {
		tv := syscall.NsecToTimeval(max(1e6, timeUntil(deadline).Nanoseconds()))
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &tv); err != nil {
			return nil, err
		}
	}
	if err := syscall.Connect(fd, sa); err != nil {
		if err == syscall.EINPROGRESS || err == syscall.EAGAIN {
			err = os.ErrDeadlineExceeded
		}
		return nil, fmt.Errorf("sctp connect %s: %w", ap, err)
	}
	return net.FileConn(file)
}
