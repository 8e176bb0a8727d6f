package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"linkspan/dataplane"
	"linkspan/netns"
)

// floodPackets is one round of a flood.
const floodPackets = 100_000

// drops measures what it costs that drops are told: the page as it is against the same
// page without its log statements, on a router between two machines. The daemon's part
// is played by tcpdump, which reads the daemon's group.
func (b *bench) drops(ctx context.Context) error {
	const forwarding, flood = "page that tells drops: forwarding", "page that tells drops: a flood of them"
	if !b.wanted(forwarding, flood) {
		return nil
	}
	r, err := newRouter()
	if err != nil {
		return err
	}
	defer r.close()
	page := dataplane.BasePage("linkspan_bbbbbb").Text
	pages := []string{page, regexp.MustCompile(`(?m)^\t\tlimit rate .* log .*$`).ReplaceAllString(page, "")}
	if pages[0] == pages[1] {
		return errors.New("the page tells no drops")
	}
	group, _ := dataplane.DropGroups("linkspan_bbbbbb")
	reader := r.command(r.host, "tcpdump", "-i", fmt.Sprintf("nflog:%d", group), "-w", "/dev/null")
	if err := reader.Start(); err == nil {
		defer func() { _ = reader.Process.Kill(); _ = reader.Wait() }()
	} else {
		b.table.note("tcpdump is not installed: nobody reads what is logged")
	}
	var speed, cost [2][]float64
	for round := range b.rounds {
		for i := range pages {
			i = (i + round) % 2
			if err := r.load(pages[i], b.wanted(forwarding)); err != nil {
				return err
			}
			if b.wanted(forwarding) {
				v, err := r.iperf(ctx, b.seconds)
				if err != nil {
					return err
				}
				speed[i] = append(speed[i], v)
			}
			if err := r.load(pages[i], false); err != nil {
				return err
			}
			v, err := r.flood()
			if err != nil {
				return err
			}
			cost[i] = append(cost[i], v)
		}
	}
	if b.wanted(forwarding) {
		b.table.row(forwarding, gigabits, best(speed[0], true), best(speed[1], true), goal{value: 0.95, relative: true, more: true})
	}
	if b.wanted(flood) {
		b.table.row(flood, microseconds, best(cost[0], false), best(cost[1], false), goal{value: 1.25, relative: true})
	}
	b.table.note("page that tells drops: the column of dockerd is the same page without its log statements; a flood is the time of one packet, sent and dropped")
	return nil
}

// router is a machine between two others.
type router struct{ client, host, server string }

var (
	floodFrom = netip.MustParsePrefix("10.91.0.2/24")
	floodTo   = netip.MustParsePrefix("10.92.0.2/24")
)

func newRouter() (r *router, err error) {
	id := make([]byte, 3)
	rand.Read(id)
	name := "/run/netns/drops" + hex.EncodeToString(id)
	r = &router{name + "-a", name + "-host", name + "-b"}
	for _, ns := range []string{r.client, r.host, r.server} {
		if err := netns.Create(ns); err != nil {
			r.close()
			return nil, err
		}
	}
	a, h, s := filepath.Base(r.client), filepath.Base(r.host), filepath.Base(r.server)
	err = errors.Join(
		ip("-n", a, "link", "add", "wan0", "type", "veth", "peer", "name", "wan0", "netns", h),
		ip("-n", s, "link", "add", "eth0", "type", "veth", "peer", "name", "br-x", "netns", h),
		ip("-n", a, "addr", "add", floodFrom.String(), "dev", "wan0"), ip("-n", h, "addr", "add", "10.91.0.1/24", "dev", "wan0"),
		ip("-n", s, "addr", "add", floodTo.String(), "dev", "eth0"), ip("-n", h, "addr", "add", "10.92.0.1/24", "dev", "br-x"),
		ip("-n", a, "link", "set", "wan0", "up"), ip("-n", h, "link", "set", "wan0", "up"), ip("-n", s, "link", "set", "eth0", "up"), ip("-n", h, "link", "set", "br-x", "up"),
		ip("-n", a, "route", "add", "default", "via", "10.91.0.1"), ip("-n", s, "route", "add", "default", "via", "10.92.0.1"),
		r.command(r.host, "sysctl", "-qw", "net.ipv4.ip_forward=1").Run())
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *router) close() {
	for _, ns := range []string{r.client, r.host, r.server} {
		_ = netns.Remove(ns)
	}
}

func (r *router) command(ns string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + ns, "--"}, args...)...)
}

// load replaces the page; open lets everything through to the server.
func (r *router) load(page string, open bool) error {
	script := "flush ruleset\n" + page + "\nadd element inet linkspan_bbbbbb bridges { \"br-x\" }\n"
	if open {
		script += "add element inet linkspan_bbbbbb inbound4 { \"br-x\" : accept }\nadd element inet linkspan_bbbbbb egress { \"br-x\" }\n"
	}
	c := r.command(r.host, "nft", "-f", "-")
	c.Stdin = strings.NewReader(script)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// iperf is what one TCP connection carries through the router.
func (r *router) iperf(ctx context.Context, seconds float64) (float64, error) {
	server := r.command(r.server, "iperf3", "-s", "-1")
	if err := server.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	time.Sleep(300 * time.Millisecond)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", "--net="+r.client, "--", "iperf3", "-C", "cubic", "-f", "m", "-c", floodTo.Addr().String(), "-t", fmt.Sprint(max(1, int(seconds+0.5)))).CombinedOutput()
	m := regexp.MustCompile(`([0-9.]+) Mbits/sec +receiver`).FindSubmatch(out)
	if err != nil || m == nil {
		return 0, fmt.Errorf("iperf3: %v: %s", err, out)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	return v / 1000, err
}

// flood is what one packet takes, in microseconds: a veth's receiver works in the
// sender's own time.
func (r *router) flood() (us float64, err error) {
	err = within(r.client, func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(floodTo.Addr(), 9).String())
		if err != nil {
			return err
		}
		defer c.Close()
		start := time.Now()
		for range floodPackets {
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
		}
		us = float64(time.Since(start).Microseconds()) / floodPackets
		return nil
	})
	if err != nil {
		return 0, err
	}
	out, err := r.command(r.host, "nft", "list", "chain", "inet", "linkspan_bbbbbb", "drop_unpublished").CombinedOutput()
	m := regexp.MustCompile(`counter packets ([0-9]+)`).FindSubmatch(out)
	if err != nil || m == nil {
		return 0, fmt.Errorf("nft: %v: %s", err, out)
	}
	if n, _ := strconv.Atoi(string(m[1])); n < floodPackets*99/100 {
		return 0, fmt.Errorf("of %d packets only %d were dropped", floodPackets, n)
	}
	return us, nil
}
