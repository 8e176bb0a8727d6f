// Command dnsnode is the bench's part that runs in another process: our resolver on
// a port of the loopback, as the keeper serves it in a sandbox, and a client that
// loads any resolver.
//
//	dnsnode serve ADDR:PORT NAMES [UPSTREAM]
//	dnsnode load ADDR:PORT NAMES SECONDS SOCKETS OUTSTANDING [DOMAIN]
package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"linkspan/dns"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dnsnode:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("serve or load, and where")
	}
	at, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	if args[0] == "serve" {
		return serve(at, n, args[3:])
	}
	return loadFrom(at, n, args[3:])
}

// serve answers for names name0, name1, ... until it is ended.
func serve(at netip.AddrPort, n int, upstreams []string) error {
	view := dns.View{Sandbox: "bench", Zones: []string{"bench"}}
	for _, u := range upstreams {
		a, err := netip.ParseAddrPort(u)
		if err != nil {
			return err
		}
		view.Upstreams = append(view.Upstreams, a)
	}
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	s := dns.NewServer(dns.Config{})
	var held dns.Sockets
	if held.UDP, err = udp.File(); err != nil {
		return err
	}
	if held.TCP, err = tcp.File(); err != nil {
		return err
	}
	_, _ = udp.Close(), tcp.Close()
	records := make([]dns.Record, n)
	for i := range records {
		records[i] = dns.Record{Endpoint: strconv.Itoa(i), Names: []string{fmt.Sprintf("name%d", i)},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}}
	}
	s.SetNames("bench", records, true)
	if err := s.SetView(view, &held); err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	<-end
	return s.Close()
}
