// Package check measures the ways between the hosts of a mesh: round trip, loss, and the
// largest packet that passes, by UDP and by TCP, and says in words what is wrong and what
// to do.
//
// There are up to three ways to a peer (Way): the wire itself, by the host's address; the
// VXLAN device that carries routed networks, by the address that each host has inside of it
// (cnm.Underlay.TunnelAddr: the same tunnel, the same UDP port and the same checksums as an
// overlay network's, without a container); and WireGuard, by the address in that tunnel.
// Probes of the wire may not be taken apart (DF) and are as large as the device takes:
// what a router drops without a word, a black hole, is found by what does not come back
// (RFC 4821, section 7).
//
// Every host answers on one port, TCP and UDP. On TCP the hosts show each other
// their certificates of the mesh; there the prober gets a key, by which every datagram is
// signed, so that nobody else is answered. An answer is never longer than its question.
package check

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"linkspan/cnm"
)

// Port is the usual one, TCP and UDP.
const Port = 2382

// Config of New. Functions are called from several goroutines and do not wait.
type Config struct {
	// ID and Name are this host's.
	ID, Name string
	// Port is the same on all hosts; 0: Port.
	Port uint16
	// Server and Client are the mesh's mutual TLS. nil: plain TCP, where the mesh has no
	// certificates (an etcd cluster of somebody else's, without TLS).
	Server, Client *tls.Config
	// Underlay is this host's place, nil while it is in no mesh; Peers are the others.
	Underlay func() *cnm.Underlay
	Peers    func() []cnm.Peer
	// PathMTU is told the largest packet that passes to every peer, in bytes, when it
	// changes; 0: as large as the device takes.
	PathMTU func(mtu int)
	// LastMTU is what FoundMTU was told of a peer last, in this life of the daemon or the
	// one before: it counts until it is measured again. 0: nothing. Both may be nil.
	LastMTU  func(peer string) int
	FoundMTU func(peer string, mtu int)
	// Spoilt is told when it is found that what goes into a tunnel has its checksum spoilt.
	Spoilt func()
	// Question answers a peer's question (Ask), which is data that this package does not
	// read; nil: none is answered. It changes nothing.
	Question func(ctx context.Context, from cnm.Peer, question []byte) ([]byte, error)
	Log      *slog.Logger
	// In runs a function where sockets are to be opened: another network namespace, in
	// tests. nil: here.
	In func(func() error) error
	// Every is how often a peer is probed lightly; 0: a second.
	Every time.Duration
	// stall is how long a transfer may stand still; 0: stalling.
	stall time.Duration
	// look is how often the wire is asked for the largest packet; 0: mtuEvery.
	look time.Duration
}

// Checker measures, and answers others that do. Safe for concurrent use.
type Checker struct {
	cfg Config
	log *slog.Logger

	answering *answering
	// one full check at a time.
	busy chan struct{}

	telling sync.Mutex

	mu     sync.Mutex
	pulses map[wayKey]*pulse
	told   int // the path MTU that was told last; -1: none yet
}

// New makes a checker; Run starts it.
func New(c Config) *Checker {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Port == 0 {
		c.Port = Port
	}
	if c.Every == 0 {
		c.Every = time.Second
	}
	if c.look == 0 {
		c.look = mtuEvery
	}
	if c.stall == 0 {
		c.stall = stalling
	}
	if c.In == nil {
		c.In = func(f func() error) error { return f() }
	}
	return &Checker{cfg: c, log: c.Log, answering: newAnswering(c), busy: make(chan struct{}, 1), pulses: map[wayKey]*pulse{}, told: -1}
}

// Run answers other hosts and probes them lightly, until the context ends. What cannot be
// opened (the port is taken) is tried again, and said once.
func (c *Checker) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { c.answer(ctx) })
	wg.Go(func() { c.beat(ctx) })
	wg.Wait()
}

func (c *Checker) answer(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		err := c.answering.serve(ctx, c)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			c.log.Warn("probes of other hosts are not answered: "+said, "host", c.cfg.Name)
		}
		pause(ctx, 5*time.Second)
	}
}

// pause waits, and says whether the context goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Result is what was met on one way from one host to another.
type Result struct {
	From string       `json:"from"`
	To   string       `json:"to"`
	Kind cnm.PathKind `json:"kind"` // direct: the wire itself
	// RTT is the median; Loss is from 0 to 1, there and back.
	RTT  time.Duration `json:"rtt,omitempty"`
	Loss float64       `json:"loss"`
	// MTU is the largest packet that came through, Expected what should, in bytes.
	MTU      int `json:"mtu,omitempty"`
	Expected int `json:"expected,omitempty"`
	// TCP is the rate of a transfer, in bytes a second; 0: it did not end.
	TCP float64 `json:"tcp,omitempty"`
	// Findings are sentences with what to do; none: it is well.
	Findings []string `json:"findings,omitempty"`
	// Spoilt: checksums of what goes into this tunnel arrive broken.
	Spoilt bool `json:"spoilt,omitempty"`
	// Error is why nothing was measured.
	Error string `json:"error,omitempty"`
}

// Well says that nothing was found.
func (r Result) Well() bool { return r.Error == "" && len(r.Findings) == 0 }

// Check measures the ways between all hosts: its own to every peer, and has each peer
// measure its own. It takes some seconds; a second one waits for the first.
func (c *Checker) Check(ctx context.Context) ([]Result, error) {
	if c.cfg.Underlay() == nil {
		return nil, cnm.Errorf(cnm.ErrConflict, "this host is in no mesh: `linkspan mesh init` makes one, `linkspan mesh join` joins one")
	}
	var mu sync.Mutex
	var all []Result
	var wg sync.WaitGroup
	wg.Go(func() {
		own, err := c.Own(ctx)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, own...)
		if err != nil && ctx.Err() == nil {
			all = append(all, Result{From: c.cfg.Name, To: c.cfg.Name, Kind: cnm.PathNone, Error: err.Error()})
		}
	})
	for _, p := range c.cfg.Peers() {
		wg.Go(func() {
			theirs, err := c.ask(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, theirs...)
			if err != nil {
				all = append(all, Result{From: p.Name, To: c.cfg.Name, Kind: cnm.PathNone, Error: err.Error()})
			}
		})
	}
	wg.Wait()
	slices.SortStableFunc(all, func(a, b Result) int {
		return strings.Compare(a.From+"\x00"+a.To, b.From+"\x00"+b.To)
	})
	return all, ctx.Err()
}

// Own measures this host's ways to every peer, and takes what is found to heart: path MTU,
// spoilt checksums.
func (c *Checker) Own(ctx context.Context) ([]Result, error) {
	select {
	case c.busy <- struct{}{}:
		defer func() { <-c.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	u := c.cfg.Underlay()
	if u == nil {
		return nil, cnm.Errorf(cnm.ErrConflict, "host %s is in no mesh", c.cfg.Name)
	}
	peers := c.cfg.Peers()
	found := make([][]Result, len(peers))
	var wg sync.WaitGroup
	free := make(chan struct{}, 8) // so many peers at once
	for i, p := range peers {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			found[i] = c.peer(ctx, u, p)
		})
	}
	wg.Wait()
	all := slices.Concat(found...)
	for _, r := range all {
		if r.Spoilt && c.cfg.Spoilt != nil {
			c.cfg.Spoilt()
			break
		}
	}
	return all, ctx.Err()
}

// peer measures all ways to one peer.
func (c *Checker) peer(ctx context.Context, u *cnm.Underlay, p cnm.Peer) (found []Result) {
	ways := Ways(u, p)
	if len(ways) == 0 {
		return []Result{{From: c.cfg.Name, To: p.Name, Kind: cnm.PathNone, Error: p.Name + " has told no address yet"}}
	}
	s, err := c.greet(ctx, p)
	if err != nil {
		return []Result{{From: c.cfg.Name, To: p.Name, Kind: cnm.PathDirect, Error: c.silent(p, err)}}
	}
	defer s.Close()
	for i, w := range ways {
		m := c.measure(ctx, s, w)
		r := judge(c.cfg.Name, p.Name, u, w, m)
		if i > 0 && !found[0].Well() && found[0].Loss == 1 {
			break // nothing passes on the wire: nothing does in tunnels
		}
		found = append(found, r)
	}
	return found
}

// silent says why a host cannot be measured.
func (c *Checker) silent(p cnm.Peer, err error) string {
	at := net.JoinHostPort(p.Addr.String(), portText(c.cfg.Port))
	var refused net.Error
	switch {
	case errors.Is(err, cnm.ErrForbidden), errors.Is(err, cnm.ErrUnavailable):
		return err.Error()
	case errors.As(err, new(unsecured)):
		return p.Name + " cannot be asked at " + at + ": " + err.Error()
	case strings.Contains(err.Error(), "connection refused"):
		return p.Name + " answers no probes at " + at + ": its daemon does not run, or it is of a version without them"
	case errors.As(err, &refused) && refused.Timeout():
		return p.Name + " does not answer at " + at + ": it is down, the way to it is cut, or a firewall is closed: open TCP and UDP port " + portText(c.cfg.Port) + " between the hosts"
	}
	return p.Name + " cannot be asked at " + at + ": " + err.Error()
}
