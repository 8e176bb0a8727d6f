package check

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"linkspan/cnm"
)

// Pulse is what the light probes of a way met lately: the last minute of the wire, five of
// a tunnel.
type Pulse struct {
	Kind cnm.PathKind
	// RTT is the median, 0 where nothing came back; Loss from 0 to 1, there and back.
	RTT  time.Duration
	Loss float64
	// PathMTU is the largest packet that passes, in bytes; 0: not known, or not asked
	// (tunnels).
	PathMTU int
	// Measured is when the last probe was sent.
	Measured time.Time
	// Error is why none can be.
	Error string
}

const (
	window = 60 // probes
	// tunnelEvery: tunnels are probed more rarely than the wire below them.
	tunnelEvery = 5
	// mtuEvery is how often the wire is asked for the largest packet.
	mtuEvery = 30 * time.Second
	// hopeless probes in a row: the peer may have forgotten the session.
	hopeless = 4
	// many peers share the probes of a hundred.
	many = 100
)

// pulse is one way's.
type pulse struct {
	way  Way
	stop context.CancelFunc

	mu      sync.Mutex
	samples []time.Duration // the latest last; 0: lost
	last    time.Time
	mtu     int
	asked   time.Time // for the MTU
	err     string
}

func (p *pulse) add(rtt time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != "" { // it was silent, which is no loss of the way
		p.samples = nil
	}
	if len(p.samples) == window {
		p.samples = p.samples[1:]
	}
	p.samples, p.last, p.err = append(p.samples, rtt), now, ""
}

// silent: the peer cannot even be asked for a key; what was measured before is over.
func (p *pulse) silent(now time.Time, err string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples, p.last, p.err = []time.Duration{0}, now, err
}

// unheard: of the last probes the peer knew no key, its daemon was started anew. They
// tell nothing of the way.
func (p *pulse) unheard(probes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples = p.samples[:max(0, len(p.samples)-probes)]
}

func (p *pulse) tell() Pulse {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := Pulse{Kind: p.way.Kind, PathMTU: p.mtu, Measured: p.last, Error: p.err}
	var came []time.Duration
	for _, s := range p.samples {
		if s > 0 {
			came = append(came, s)
		}
	}
	if len(p.samples) > 0 {
		t.Loss = 1 - float64(len(came))/float64(len(p.samples))
	}
	if len(came) > 0 {
		slices.Sort(came)
		t.RTT = came[len(came)/2]
	}
	return t
}

// Status is what the light probes met, by peer id; the wire first.
func (c *Checker) Status() map[string][]Pulse {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string][]Pulse{}
	for _, kind := range []cnm.PathKind{cnm.PathDirect, cnm.PathVXLAN, cnm.PathWireGuard} {
		for key, p := range c.pulses {
			if t := p.tell(); key.kind == kind && !t.Measured.IsZero() {
				all[key.peer] = append(all[key.peer], t)
			}
		}
	}
	return all
}

// beat keeps one pulse for each way to each peer.
func (c *Checker) beat(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		want := map[wayKey]bool{}
		peers := c.cfg.Peers()
		every := c.cfg.Every * time.Duration(max(1, len(peers)/many))
		if u := c.cfg.Underlay(); u != nil {
			for _, p := range peers {
				for _, w := range Ways(u, p) {
					want[w.key()] = true
					c.mu.Lock()
					if have := c.pulses[w.key()]; have != nil && have.way == w {
						c.mu.Unlock()
						continue
					} else if have != nil {
						have.stop()
					}
					on, stop := context.WithCancel(ctx)
					n := &pulse{way: w, stop: stop, mtu: c.lastMTU(w)}
					c.pulses[w.key()] = n
					c.mu.Unlock()
					pace := every
					if w.Kind != cnm.PathDirect {
						pace *= tunnelEvery
					}
					wg.Go(func() { c.feel(on, p, n, pace) })
				}
			}
		}
		c.mu.Lock()
		for key, p := range c.pulses {
			if !want[key] {
				p.stop()
				delete(c.pulses, key)
			}
		}
		c.mu.Unlock()
		c.tell()
		if !pause(ctx, c.cfg.Every) {
			return
		}
	}
}

// feel probes one way until its context ends.
func (c *Checker) feel(ctx context.Context, p cnm.Peer, n *pulse, pace time.Duration) {
	var before uint64 // the session that met with silence
	for ctx.Err() == nil {
		s, err := c.greet(ctx, p)
		if err != nil {
			if ctx.Err() == nil {
				n.silent(time.Now(), c.silent(p, err))
			}
			pause(ctx, max(pace, 2*time.Second))
			continue
		}
		if before != 0 {
			if _, err := s.ask(ctx, request{Op: "tally", Session: before}, agree); errors.Is(err, cnm.ErrUnavailable) {
				n.unheard(hopeless)
			}
		}
		before = s.session
		s.Close() // the key stays good
		conn, err := dialProbe(ctx, c.cfg.In, netip.AddrPortFrom(n.way.Target, c.cfg.Port))
		if err != nil {
			n.silent(time.Now(), err.Error())
			pause(ctx, max(pace, 2*time.Second))
			continue
		}
		b := &burst{conn: conn, session: s.session, key: s.key, extra: ipHeader(n.way.Target)}
		stop := b.listen()
		for lost := 0; lost < hopeless; {
			begin := time.Now()
			rtt := b.send(ctx, []int{smallSize}, 0, widest)[0]
			if ctx.Err() != nil {
				break
			}
			if n.add(rtt, begin); rtt > 0 {
				lost = 0
				c.measureMTU(ctx, b, s, n)
			} else {
				lost++
			}
			if !pause(ctx, pace-min(pace, time.Since(begin))) {
				break
			}
		}
		stop()
	}
}

// measureMTU asks the wire, now and then, for the largest packet that passes.
func (c *Checker) measureMTU(ctx context.Context, b *burst, s *conversation, n *pulse) {
	if n.way.Kind != cnm.PathDirect || time.Since(n.asked) < c.cfg.look || n.tell().Loss > 0.5 {
		return
	}
	n.asked = time.Now()
	high, patience := n.way.MTU, min(widest, 4*n.tell().RTT+100*time.Millisecond)
	if s.mtu != 0 {
		high = min(high, s.mtu)
	}
	mtu := b.limit(ctx, floor(n.way.Target), high, patience)
	if ctx.Err() == nil {
		n.mu.Lock()
		n.mtu = mtu
		n.mu.Unlock()
		if c.cfg.FoundMTU != nil {
			c.cfg.FoundMTU(n.way.Peer, mtu)
		}
		c.tell()
	}
}

// lastMTU is what passed on the wire to a peer when that was measured last.
func (c *Checker) lastMTU(w Way) int {
	if c.cfg.LastMTU == nil || w.Kind != cnm.PathDirect {
		return 0
	}
	return c.cfg.LastMTU(w.Peer)
}

// tell hands on the largest packet that passes to every peer, when it is another.
func (c *Checker) tell() {
	u := c.cfg.Underlay()
	if c.cfg.PathMTU == nil || u == nil {
		return
	}
	c.telling.Lock() // one after another, the latest last
	defer c.telling.Unlock()
	c.mu.Lock()
	least, known := 0, false
	for key, p := range c.pulses {
		p.mu.Lock()
		mtu := p.mtu
		p.mu.Unlock()
		if key.kind == cnm.PathDirect && mtu > 0 {
			known = true
			if mtu < p.way.MTU && (least == 0 || mtu < least) {
				least = mtu
			}
		}
	}
	news := known && least != c.told
	if news {
		c.told = least
	}
	c.mu.Unlock()
	if news {
		c.cfg.PathMTU(least)
	}
}
