package check

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/internal/lab"
	"linkspan/probe"
)

// world is some hosts of a mesh on a switch, each of which answers probes.
type world struct {
	t     *testing.T
	lab   *lab.Lab
	sw    *lab.Switch
	hosts []*node
}

// node is one host.
type node struct {
	*lab.Host
	c    *Checker
	u    *cnm.Underlay
	self cnm.Peer

	mu    sync.Mutex
	mtus  []int          // told
	found map[string]int // to be remembered
}

func (n *node) told() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]int(nil), n.mtus...)
}

// start makes hosts and runs them, beside other tests. Those of a number from behind on are behind a router.
func start(t *testing.T, count, behind int) *world {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS, probe.Veth, probe.Bridge)
	t.Parallel()
	w := &world{t: t, lab: lab.New(t)}
	w.sw = w.lab.Switch("sw")
	var router *lab.Host
	if behind <= count {
		router = w.lab.Host("router").Router()
		w.sw.Plug(router, "10.0.0.254/24")
	}
	for i := 1; i <= count; i++ {
		h := w.lab.Host(fmt.Sprintf("h%d", i))
		n := &node{Host: h, found: map[string]int{}, u: &cnm.Underlay{Host: fmt.Sprintf("id%d", i), Name: fmt.Sprintf("host%d", i), Dev: "wan0", MTU: 1500, VXLANPort: 4789,
			MAC: fmt.Sprintf("02:4c:00:00:00:0%d", i), RoutedVNI: 0x4C0000}}
		if i < behind {
			addr := fmt.Sprintf("10.0.0.%d", i)
			w.sw.Plug(h, addr+"/24")
			n.u.Addr = netip.MustParseAddr(addr)
			if router != nil {
				h.Route("default", netip.MustParseAddr("10.0.0.254"))
			}
		} else {
			addr, gw := fmt.Sprintf("10.9.%d.2", i), fmt.Sprintf("10.9.%d.1", i)
			w.lab.Join(h, router, addr+"/24", gw+"/24")
			h.Route("default", netip.MustParseAddr(gw))
			n.u.Addr = netip.MustParseAddr(addr)
		}
		n.self = cnm.Peer{ID: n.u.Host, Name: n.u.Name, Addr: n.u.Addr, MAC: n.u.MAC, Dev: "wan0"}
		w.hosts = append(w.hosts, n)
	}
	for _, n := range w.hosts {
		w.tunnel(n)
	}
	id := identities(t, w.hosts)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, n := range w.hosts {
		n.c = New(Config{ID: n.u.Host, Name: n.u.Name, In: n.Do, Every: 100 * time.Millisecond, stall: time.Second, look: time.Second, Server: id[n.u.Name], Client: id[n.u.Name],
			Underlay: func() *cnm.Underlay { return n.u }, Peers: func() []cnm.Peer { return w.others(n) },
			PathMTU:  func(mtu int) { n.mu.Lock(); n.mtus = append(n.mtus, mtu); n.mu.Unlock() },
			FoundMTU: func(peer string, mtu int) { n.mu.Lock(); n.found[peer] = mtu; n.mu.Unlock() }})
		wg.Go(func() { n.c.Run(ctx) })
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	w.until("the hosts answer", func() string {
		for _, n := range w.hosts {
			s := n.c.Status()
			for _, o := range w.others(n) {
				if len(s[o.ID]) != 2 || s[o.ID][0].RTT == 0 || s[o.ID][1].RTT == 0 {
					return fmt.Sprintf("%s has of %s %+v", n.u.Name, o.Name, s[o.ID])
				}
			}
		}
		return ""
	})
	return w
}

// identities are certificates of one CA, each of which is longer than a packet.
func identities(t *testing.T, hosts []*node) map[string]*tls.Config {
	t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	made := func(c, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c
	}
	caKey := newKey()
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "mesh"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca = made(ca, ca, caKey, caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	all := map[string]*tls.Config{}
	for _, n := range hosts {
		key := newKey()
		leaf := made(&x509.Certificate{Subject: pkix.Name{CommonName: n.u.Name, OrganizationalUnit: []string{strings.Repeat("long ", 300)}}, IPAddresses: []net.IP{n.u.Addr.AsSlice()},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, ca, key, caKey)
		all[n.u.Name] = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
			Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}}
	}
	return all
}

func (w *world) others(n *node) (ps []cnm.Peer) {
	for _, o := range w.hosts {
		if o != n {
			ps = append(ps, o.self)
		}
	}
	return ps
}

// tunnel makes what driver.UnderlayObjects plans, by hand.
func (w *world) tunnel(n *node) {
	n.Run("ip", "link", "add", "ls-r", "mtu", "1450", "address", n.u.MAC, "type", "vxlan", "id", fmt.Sprint(n.u.RoutedVNI), "local", n.u.Addr.String(), "dev", "wan0", "dstport", "4789", "nolearning")
	n.Run("ip", "addr", "add", n.u.TunnelAddr(n.u.MAC).String()+"/64", "dev", "ls-r", "nodad")
	n.Run("ip", "link", "set", "ls-r", "up")
	for _, o := range w.others(n) {
		n.Run("bridge", "fdb", "replace", o.MAC, "dev", "ls-r", "dst", o.Addr.String())
		n.Run("ip", "neigh", "replace", n.u.TunnelAddr(o.MAC).String(), "lladdr", o.MAC, "nud", "permanent", "dev", "ls-r")
	}
}

// until waits for what a function no longer complains about.
func (w *world) until(what string, f func() string) {
	w.t.Helper()
	var last string
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if last = f(); last == "" {
			return
		}
	}
	w.t.Fatalf("%s: not in time: %s", what, last)
}

// own is what a host finds, as text: one line for each way.
func (w *world) own(n *node) map[string]Result {
	w.t.Helper()
	ctx, done := context.WithTimeout(w.t.Context(), time.Minute)
	defer done()
	found, err := n.c.Own(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	by := map[string]Result{}
	for _, r := range found {
		by[r.To+" "+string(r.Kind)] = r
	}
	return by
}

// finds holds a result to words that it must have; none: it is well.
func (w *world) finds(r Result, words ...string) {
	w.t.Helper()
	all := strings.Join(append(r.Findings, r.Error), "; ")
	if len(words) == 0 && !r.Well() {
		w.t.Errorf("%s to %s, %s: %s, want nothing", r.From, r.To, r.Kind, all)
	}
	for _, x := range words {
		if !strings.Contains(all, x) {
			w.t.Errorf("%s to %s, %s: %q does not say %q", r.From, r.To, r.Kind, all, x)
		}
	}
}
