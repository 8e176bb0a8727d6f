package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"linkspan/netns"
)

// Where CoreDNS is kept once it was built, as dockerd is.
const (
	coreDNSModule = "github.com/coredns/coredns@v1.12.1"
	coreDNSDir    = "/var/cache/linkspan/coredns"
	coreDNSBuild  = 4 * time.Minute
)

// Loads on a resolver: sockets and questions under way on each. Eight is what keeps
// two processors busy; one is what a program sees that looks a name up and waits.
const dnsMany, dnsOne = 8, 1

// dnsRoundsMost bounds how often each load runs: there are two of them, on five servers,
// at two sizes.
const dnsRoundsMost = 3

// resolver is one server that is loaded.
type resolver struct {
	name string
	ns   string // where its client is
	at   netip.AddrPort
	// domain is appended to the names that it is asked for.
	domain string

	rate, p99, single []float64
}

// dns measures our resolver beside dnsmasq and CoreDNS in a namespace of their own,
// and beside Docker's in a container.
func (b *bench) dns(ctx context.Context) error {
	node := filepath.Join(b.world.dir, "dnsnode")
	for _, n := range []int{10, 10_000} {
		if !b.wanted(slices.Concat(dnsRows(n, ""), dnsRows(n, "dnsmasq"), dnsRows(n, "CoreDNS"), dnsRows(n, dockers))...) {
			continue
		}
		if _, err := os.Stat(node); err != nil {
			if err := tool(ctx, "go", "build", "-buildvcs=false", "-o", node, "./bench/dnsnode"); err != nil {
				return err
			}
		}
		for _, measure := range []func(context.Context, string, int) error{b.dnsRivals, b.dnsEngines} {
			if err := measure(ctx, node, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// dockers is who stands on the right in rows of containers.
const dockers = "Docker's"

// dnsRows are the names of the rows of one pair, or of ours alone.
func dnsRows(n int, rival string) []string {
	if rival != "" {
		rival = "; right: " + rival
	}
	return []string{
		fmt.Sprintf("DNS answers, %d names%s", n, rival),
		fmt.Sprintf("DNS p99, %d names%s", n, rival),
		fmt.Sprintf("DNS one by one, %d names%s", n, rival),
	}
}

// dnsRivals loads the servers alone.
func (b *bench) dnsRivals(ctx context.Context, node string, n int) error {
	id := make([]byte, 3)
	rand.Read(id)
	ns := "/run/netns/bench" + hex.EncodeToString(id) + "-dns"
	if err := netns.Create(ns); err != nil {
		return err
	}
	defer netns.Remove(ns)
	if err := ip("-n", filepath.Base(ns), "link", "set", "lo", "up"); err != nil {
		return err
	}
	hosts := filepath.Join(b.world.dir, fmt.Sprintf("hosts.%d", n))
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "10.%d.%d.%d name%d\n", i>>16, i>>8&255, i&255, i)
	}
	if err := os.WriteFile(hosts, []byte(text.String()), 0o644); err != nil {
		return err
	}
	list := []*resolver{{name: "linkspan", at: netip.MustParseAddrPort("127.0.0.1:5300")}}
	commands := [][]string{{node, "serve", "127.0.0.1:5300", fmt.Sprint(n)}}
	if path, err := exec.LookPath("dnsmasq"); err == nil {
		list = append(list, &resolver{name: "dnsmasq", at: netip.MustParseAddrPort("127.0.0.1:5301")})
		commands = append(commands, []string{path, "-k", "-p", "5301", "--listen-address=127.0.0.1", "--bind-interfaces", "--no-resolv",
			"--no-hosts", "--user=root", "--addn-hosts=" + hosts, "--pid-file=", "-C", os.DevNull})
	} else {
		b.table.note("DNS: no dnsmasq here (Debian's dnsmasq-base)")
	}
	if path, err := coreDNS(ctx); err == nil {
		conf := filepath.Join(b.world.dir, fmt.Sprintf("Corefile.%d", n))
		if err := os.WriteFile(conf, fmt.Appendf(nil, ".:5302 {\n bind 127.0.0.1\n hosts %s\n}\n", hosts), 0o644); err != nil {
			return err
		}
		list = append(list, &resolver{name: "CoreDNS", at: netip.MustParseAddrPort("127.0.0.1:5302")})
		commands = append(commands, []string{path, "-quiet", "-conf", conf})
	} else {
		b.table.note("DNS: no CoreDNS here: %v", err)
	}
	for i, r := range list {
		r.ns = ns
		end, err := b.serveDNS(ctx, r, commands[i])
		if err != nil {
			return err
		}
		defer end()
	}
	return b.dnsRounds(ctx, node, n, list, true)
}

// coreDNS is its program, built when it is not there yet.
func coreDNS(ctx context.Context) (string, error) {
	path := filepath.Join(coreDNSDir, "coredns")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(coreDNSDir, 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, coreDNSBuild)
	defer cancel()
	c := exec.CommandContext(ctx, "go", "install", coreDNSModule)
	c.Dir = coreDNSDir
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+coreDNSDir, "GOFLAGS=-mod=mod")
	if out, err := c.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("go install %s: %w: %s", coreDNSModule, err, lines[len(lines)-1])
	}
	return path, nil
}

// serveDNS starts a server and waits until it answers.
func (b *bench) serveDNS(ctx context.Context, r *resolver, cmd []string) (end func(), err error) {
	log, err := os.Create(filepath.Join(b.world.dir, "dns-"+r.name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + r.ns, "--"}, cmd...)...)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	end = func() { stop(c.Process, ended) }
	if err := r.answers(10 * time.Second); err != nil {
		end()
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%s: %w: %s", r.name, err, said)
	}
	return end, nil
}

// answers waits until the server answers for a name.
func (r *resolver) answers(within time.Duration) (err error) {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = r.answer(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no answer at %s: %w", r.at, err)
}

func (r *resolver) answer() error {
	return within(r.ns, func() error {
		c, err := net.Dial("udp", r.at.String())
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		ask := "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05name0"
		if r.domain != "" {
			ask += string(rune(len(r.domain))) + r.domain
		}
		if _, err := c.Write([]byte(ask + "\x00\x00\x01\x00\x01")); err != nil {
			return err
		}
		buf := make([]byte, 512)
		n, err := c.Read(buf)
		if err == nil && (n < 12 || buf[3]&15 != 0 || buf[7] == 0) {
			err = fmt.Errorf("it says % x", buf[:n])
		}
		return err
	})
}

// dnsRounds loads each in turn and makes the rows: the first of the list is ours.
func (b *bench) dnsRounds(ctx context.Context, node string, n int, list []*resolver, absolute bool) error {
	for round := range min(b.rounds, dnsRoundsMost) {
		for i := range list {
			r := list[(i+round)%len(list)]
			if err := r.load(ctx, node, n, b.seconds/2); err != nil {
				return fmt.Errorf("DNS load on %s: %w", r.name, err)
			}
		}
	}
	ours := list[0]
	for _, theirs := range list[1:] {
		rows := dnsRows(n, theirs.name)
		b.table.row(rows[0], perSecond, best(ours.rate, true), best(theirs.rate, true), goal{value: 1, relative: true, more: true})
		b.table.row(rows[1], microseconds, best(ours.p99, false), best(theirs.p99, false), goal{value: 1.1, relative: true})
		b.table.row(rows[2], microseconds, best(ours.single, false), best(theirs.single, false), goal{value: 1.1, relative: true})
	}
	if absolute {
		rows := dnsRows(n, "")
		b.table.row(rows[0], perSecond, best(ours.rate, true), math.NaN(), goal{value: 150_000, more: true})
		b.table.row(rows[1], microseconds, best(ours.p99, false), math.NaN(), goal{value: 130})
		b.table.row(rows[2], microseconds, best(ours.single, false), math.NaN(), goal{value: 100})
	}
	return nil
}

// load measures one round.
func (r *resolver) load(ctx context.Context, node string, n int, seconds float64) error {
	for _, outstanding := range []int{dnsMany, dnsOne} {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds*float64(time.Second))+20*time.Second)
		c := exec.CommandContext(ctx, "nsenter", "--net="+r.ns, "--", node, "load", r.at.String(), fmt.Sprint(n), fmt.Sprint(seconds), "1", fmt.Sprint(outstanding), r.domain)
		c.Env = append(os.Environ(), "GOGC=400")
		c.Stderr = os.Stderr
		out, err := c.Output()
		cancel()
		if err != nil {
			return err
		}
		var got struct {
			PerSecond, P50, P99 float64
			Lost, Wrong         int
		}
		if err := json.Unmarshal(out, &got); err != nil {
			return err
		}
		if got.Lost > 0 || got.Wrong > 0 {
			return fmt.Errorf("%d questions lost, %d answered wrongly", got.Lost, got.Wrong)
		}
		if outstanding == dnsOne {
			r.single = append(r.single, got.P50)
		} else {
			r.rate, r.p99 = append(r.rate, got.PerSecond), append(r.p99, got.P99)
		}
	}
	return nil
}

// dnsEngines loads what containers find at 127.0.0.11: the names are one container's
// aliases on a network, and the client is in another container.
func (b *bench) dnsEngines(ctx context.Context, node string, n int) (err error) {
	if b.world.theirs == nil || !b.wanted(dnsRows(n, dockers)...) {
		return nil
	}
	var list []*resolver
	for _, e := range []*engine{b.world.ours, b.world.theirs} {
		network := fmt.Sprintf("benchdns%d", n)
		if err := e.do(ctx, http.MethodPost, "/networks/create", "application/json", body(object{"Name": network, "CheckDuplicate": true}), nil); err != nil {
			return err
		}
		var made []string
		defer func() {
			for _, id := range made {
				err = errors.Join(err, e.remove(ctx, id))
			}
			err = errors.Join(err, e.do(ctx, http.MethodDelete, "/networks/"+network, "", nil, nil))
		}()
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("name%d", i)
		}
		var client place
		for _, aliases := range [][]string{names, nil} {
			var answer struct{ Id string }
			if err := e.do(ctx, http.MethodPost, "/containers/create", "application/json", body(object{"Image": "pause",
				"HostConfig":       object{"NetworkMode": network},
				"NetworkingConfig": object{"EndpointsConfig": object{network: object{"Aliases": aliases}}}}), &answer); err != nil {
				return err
			}
			made = append(made, answer.Id)
			if err := e.run(ctx, answer.Id); err != nil {
				return err
			}
			if client, err = e.place(ctx, answer.Id); err != nil {
				return err
			}
		}
		r := &resolver{name: dockers, ns: client.ns(), at: netip.MustParseAddrPort("127.0.0.11:53")}
		if e == b.world.ours {
			r.name = "linkspan"
		}
		if err := r.answers(10 * time.Second); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		list = append(list, r)
	}
	return b.dnsRounds(ctx, node, n, list, false)
}

// body is JSON to send.
func body(v any) *strings.Reader {
	b, err := json.Marshal(v)
	if err != nil {
		return strings.NewReader(err.Error())
	}
	return strings.NewReader(string(b))
}
