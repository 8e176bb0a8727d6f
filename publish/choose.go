package publish

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"

	"linkspan/cnm"
)

// Reserver holds host ports for their owners. Implementations are safe for
// concurrent use.
type Reserver interface {
	// Reserve takes all of the ports for the owner or none; the zero HostIP means
	// both families, in which the port must be free alike. Of a port that cannot
	// be had it answers a *TakenError.
	Reserve(ctx context.Context, owner string, ports []cnm.PublishedPort) error
}

// TakenError says which of the ports asked for could not be had.
type TakenError struct {
	Index int        // which of the ports
	Addr  netip.Addr // the address on which it failed
	Port  uint16
	Err   error // the kernel's reason: EADDRINUSE, EADDRNOTAVAIL, EACCES, …
}

func (e *TakenError) Error() string { return hostPort(e.Addr, e.Port) + ": " + e.Err.Error() }
func (e *TakenError) Unwrap() error { return e.Err }

// Owner is a container that publishes a port.
type Owner struct{ Name, ID string }

// Options of NewChooser; the zero value is good.
type Options struct {
	// Publisher finds the container that publishes on a host address and port,
	// for errors.
	Publisher func(proto string, addr netip.Addr, port uint16) (Owner, bool)
	// Process finds the process that holds a host port, for errors; nil means
	// Holder, which looks in the caller's network namespace.
	Process func(proto string, addr netip.Addr, port uint16) (Process, bool)
	// Ephemeral bounds the ports given for "any free"; nil reads what the kernel
	// uses for its own (see EphemeralPorts).
	Ephemeral func() Ephemeral
}

// Chooser chooses host ports. Ports for "any free" go round, so that one that
// was just released is not met by the next container's clients. Safe for
// concurrent use.
type Chooser struct {
	reserver Reserver
	opts     Options
	mu       sync.Mutex
	next     map[string]uint16 // by protocol
}

// NewChooser makes a chooser that reserves through r.
func NewChooser(r Reserver, o Options) *Chooser {
	if o.Publisher == nil {
		o.Publisher = func(string, netip.Addr, uint16) (Owner, bool) { return Owner{}, false }
	}
	if o.Process == nil {
		o.Process = Holder
	}
	if o.Ephemeral == nil {
		o.Ephemeral = EphemeralPorts
	}
	return &Chooser{reserver: r, opts: o, next: map[string]uint16{}}
}

// Choose chooses a host port for each request and reserves them all for the
// owner, or none. Requests keep their order and each stays one range; only a
// range of container ports for which the host has no free ports in a row comes
// out port by port. It errs with cnm.ErrConflict, naming the holder of a port
// that is taken, cnm.ErrExhausted when no port of a range is left,
// cnm.ErrInvalid for an address that the host does not have.
func (c *Chooser) Choose(ctx context.Context, owner string, reqs []Request) ([]cnm.PublishedPort, error) {
	if len(reqs) == 0 {
		return nil, nil
	}
	if err := Check(reqs); err != nil {
		return nil, err
	}
	slots := make([]*slot, len(reqs))
	for i, r := range reqs {
		slots[i] = &slot{req: r}
		if r.fixed() {
			slots[i].choose(r.HostPort)
		}
	}
	// What is not fixed avoids what is, then what was chosen before it.
	for i := 0; i < len(slots); i++ {
		if slots[i].chosen {
			continue
		}
		if err := c.advance(&slots, i); err != nil {
			return nil, err
		}
	}
	for {
		ports := make([]cnm.PublishedPort, len(slots))
		for i, s := range slots {
			ports[i] = s.port
		}
		err := c.reserver.Reserve(ctx, owner, ports)
		var taken *TakenError
		switch {
		case err == nil:
			return ports, nil
		case !errors.As(err, &taken) || taken.Index < 0 || taken.Index >= len(slots):
			return nil, err
		}
		s := slots[taken.Index]
		if s.req.fixed() || !errors.Is(taken.Err, syscall.EADDRINUSE) {
			return nil, c.refused(s.port, taken)
		}
		s.refusals = append(s.refusals, *taken)
		if err := c.advance(&slots, taken.Index); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// slot is one request on its way to a port.
type slot struct {
	req    Request
	port   cnm.PublishedPort
	chosen bool
	// tries is how many candidates of an "any free" request were looked at.
	tries    int
	refusals []TakenError
}

func (s *slot) choose(host uint16) {
	s.port, s.chosen = s.req.published(host), true
}

// advance moves slot i to its next candidate that does not conflict with the
// other slots.
func (c *Chooser) advance(slots *[]*slot, i int) error {
	s := (*slots)[i]
	clear := func() bool {
		for j, o := range *slots {
			if j != i && o.chosen && Conflict(o.port, s.port) {
				return false
			}
		}
		return true
	}
	if s.req.HostPort != 0 { // one of a range: the lowest that is free
		host := int(s.req.HostPort)
		if s.chosen {
			host = int(s.port.HostPort) + 1
		}
		for ; host <= int(s.req.HostPortEnd); host++ {
			if s.choose(uint16(host)); clear() {
				return nil
			}
		}
		return c.noneLeft(s)
	}
	e := c.opts.Ephemeral()
	for s.tries <= e.size() {
		host, skipped, ok := c.ephemeral(s.req, e)
		if !ok {
			break
		}
		s.tries += skipped
		if s.choose(host); clear() {
			return nil
		}
	}
	if n := s.req.PortEnd - s.req.Port; n > 0 {
		// Nowhere enough in a row: port by port.
		var singles []*slot
		for p := range n + 1 {
			r := s.req
			r.Port, r.PortEnd = s.req.Port+p, s.req.Port+p
			singles = append(singles, &slot{req: r})
		}
		*slots = slices.Replace(*slots, i, i+1, singles...)
		for j := range singles {
			if err := c.advance(slots, i+j); err != nil {
				return err
			}
		}
		return nil
	}
	return c.noneLeft(s)
}

// ephemeral gives the next port, or run of ports, of the round, and how many
// ports further the round moved.
func (c *Chooser) ephemeral(r Request, e Ephemeral) (host uint16, moved int, ok bool) {
	need := int(r.PortEnd-r.Port) + 1
	if need > e.size() {
		return 0, 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := int(c.next[r.Proto])
	if at < int(e.First) || at > int(e.Last) {
		at = int(e.First)
	}
	for moved = 0; moved <= e.size(); {
		if at+need-1 > int(e.Last) { // a run does not wrap
			moved += int(e.Last) - at + 1
			at = int(e.First)
		}
		bad := -1
		for p := at + need - 1; p >= at && bad < 0; p-- {
			if e.reserved(uint16(p)) {
				bad = p
			}
		}
		if bad >= 0 {
			moved += bad + 1 - at
			if at = bad + 1; at > int(e.Last) {
				at = int(e.First)
			}
			continue
		}
		next := at + need
		if next > int(e.Last) {
			next = int(e.First)
		}
		c.next[r.Proto] = uint16(next)
		return uint16(at), moved + need, true
	}
	return 0, 0, false
}

// refused is the error for one port that cannot be had. It begins with dockerd's
// sentence, which scripts look for.
func (c *Chooser) refused(p cnm.PublishedPort, e *TakenError) error {
	head := fmt.Sprintf("Bind for %s failed", hostPort(e.Addr, e.Port))
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return cnm.Errorf(cnm.ErrConflict, "%s: port is already allocated: %s", head, c.holder(p.Proto, e))
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return cnm.Errorf(cnm.ErrInvalid, "%s: cannot assign requested address: %s is not an address of this host; "+
			"publish on one that is (ip address), or on all", head, e.Addr)
	case errors.Is(e.Err, syscall.EACCES):
		return cnm.Errorf(cnm.ErrForbidden, "%s: permission denied: the daemon may not bind port %d; "+
			"run it as root, or choose a port from 1024 on", head, e.Port)
	case errors.Is(e.Err, syscall.EMFILE), errors.Is(e.Err, syscall.ENFILE):
		return cnm.Errorf(cnm.ErrExhausted, "%s: %w: every published port is a socket that the keeper holds; publish fewer ports, "+
			"or raise its limit (LimitNOFILE in the daemon's unit, or ulimit -n)", head, e.Err)
	}
	return cnm.Errorf(cnm.ErrUnavailable, "%s (%s): %w", head, p.Proto, e.Err)
}

// holder says who has a port, and the cure.
func (c *Chooser) holder(proto string, e *TakenError) string {
	if o, ok := c.opts.Publisher(proto, e.Addr, e.Port); ok {
		return fmt.Sprintf("container %s (%.12s) publishes it; stop it or choose another port", o.Name, o.ID)
	}
	p, ok := c.opts.Process(proto, e.Addr, e.Port)
	switch {
	case ok && p.Waiting:
		return "address already in use: connections to it were just closed and are in TIME_WAIT; try again in a minute or publish another port"
	case ok && p.PID == 0:
		return "address already in use by a process that cannot be seen from here; stop it or publish another port"
	case ok:
		return fmt.Sprintf("address already in use: held by %s (pid %d); stop it or publish another port", p.Command, p.PID)
	}
	return fmt.Sprintf("address already in use by a process that could not be found (try: ss -lntup 'sport = %d'); stop it or publish another port", e.Port)
}

// noneLeft is the error for a request that has nothing left to choose from.
func (c *Chooser) noneLeft(s *slot) error {
	ip := s.req.HostIP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	if s.req.HostPort == 0 {
		e := c.opts.Ephemeral()
		return cnm.Errorf(cnm.ErrExhausted, "Bind for %s failed: all ports are allocated: no port of %s/%s is free for container port %s; "+
			"stop something that holds some, or widen net.ipv4.ip_local_port_range",
			hostPort(ip, 0), span(e.First, e.Last), s.req.Proto, span(s.req.Port, s.req.PortEnd))
	}
	var who []string
	for i := range s.refusals {
		if i == 3 {
			who = append(who, fmt.Sprintf("%d more", len(s.refusals)-i))
			break
		}
		t := &s.refusals[i]
		by := "another process"
		if o, ok := c.opts.Publisher(s.req.Proto, t.Addr, t.Port); ok {
			by = fmt.Sprintf("container %s (%.12s)", o.Name, o.ID)
		} else if p, ok := c.opts.Process(s.req.Proto, t.Addr, t.Port); ok && p.PID > 0 {
			by = fmt.Sprintf("%s (pid %d)", p.Command, p.PID)
		}
		who = append(who, fmt.Sprintf("%d by %s", t.Port, by))
	}
	held := "the container's other ports need them"
	if len(who) > 0 {
		held = "held are " + strings.Join(who, ", ")
	}
	return cnm.Errorf(cnm.ErrExhausted, "Bind for %s:%s failed: all ports are allocated: no port of %[2]s/%s is free: %s; stop one of them or give a wider range",
		bracket(ip), span(s.req.HostPort, s.req.HostPortEnd), s.req.Proto, held)
}
