// Package capture copies the packets of one container: at its own interface, and at the
// host's on the other side of NAT, where conntrack tells which packets are its. Both
// become one pcapng file, in order, with comments that name the flow.
package capture

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
	"linkspan/diagnose/capture/filter"
	"linkspan/diagnose/flows"
)

// The sides.
const (
	Both   = "both"
	Inside = "inside" // the container's interfaces
	Host   = "host"   // the host's uplinks
)

// Wish says what to capture.
type Wish struct {
	Container string
	Filter    string // see package filter
	Side      string // "" is Both
	Count     int    // end after so many packets; 0: do not
	For       time.Duration
	Snap      int // bytes of each packet; 0: SnapUsual
}

// Lengths of what is copied of a packet.
const (
	SnapUsual = 65535
	SnapLeast = 64
)

// Source is what captures need.
type Source struct {
	World *diagnose.World
	Names *flows.Names
	Tap   reading.Tap
	// Version is of the program, for the file's header.
	Version string
}

// place is one interface to capture at.
type place struct {
	Link
	ns, dev string
	inside  bool
	program []reading.Instruction
}

// Capture is one that was prepared: all that can be wrong is known.
type Capture struct {
	src    Source
	wish   Wish
	box    *cnm.Sandbox
	places []place
	expr   *filter.Expr
	// loose: the kernel lets more through than the filter, which is asked again here,
	// of both sides' addresses.
	loose bool
}

// Prepare looks up names and compiles the filter.
func (s Source) Prepare(ctx context.Context, w Wish) (*Capture, error) {
	switch w.Side {
	case "":
		w.Side = Both
	case Both, Inside, Host:
	default:
		return nil, cnm.Invalid("invalid side %q: inside, host or both", w.Side)
	}
	switch {
	case w.Snap == 0:
		w.Snap = SnapUsual
	case w.Snap < SnapLeast || w.Snap > SnapUsual:
		return nil, cnm.Invalid("invalid length %d: %d to %d bytes of each packet", w.Snap, SnapLeast, SnapUsual)
	}
	if w.Count < 0 || w.For < 0 {
		return nil, cnm.Invalid("neither a count nor a duration below zero ends a capture")
	}
	c, err := s.World.Container(w.Container)
	if err != nil {
		return nil, err
	}
	box, ok := s.World.Sandbox(c.ID)
	switch {
	case !ok:
		return nil, cnm.Conflict("container %s does not run (%s): nothing passes there; start it: linkspan start %s", c.Name, c.State, c.Name)
	case box.Host:
		return nil, cnm.Conflict("container %s uses the host's own network (--network host): its packets are the host's; capture those by tcpdump -i any", c.Name)
	case len(box.Endpoints) == 0:
		return nil, cnm.Conflict("container %s is on no network: nothing passes there; connect it: linkspan network connect NETWORK %s", c.Name, c.Name)
	}
	out := &Capture{src: s, wish: w, box: box}
	out.wish.Container = c.Name
	if out.expr, err = filter.Parse(w.Filter, s.resolve); err != nil {
		return nil, err
	}
	return out, out.plan(ctx)
}

// resolve lets filters name containers.
func (s Source) resolve(name string) (addrs []netip.Addr, err error) {
	c, err := s.World.Container(name)
	if err != nil {
		return nil, err
	}
	box, ok := s.World.Sandbox(c.ID)
	if ok {
		addrs = addresses(box)
	}
	if len(addrs) == 0 {
		return nil, cnm.Conflict("container %s has no address", c.Name)
	}
	return addrs, nil
}

func addresses(box *cnm.Sandbox) (all []netip.Addr) {
	for _, e := range box.Endpoints {
		for _, p := range e.Addrs {
			all = append(all, p.Addr())
		}
		all = append(all, e.LinkLocal...)
	}
	return all
}

// plan chooses interfaces and what the kernel lets through there.
func (c *Capture) plan(ctx context.Context) error {
	// Addresses and ports may be of the other side of NAT: these are compared here, and
	// the kernel sorts out only by what NAT leaves as it is.
	kernel, same := c.expr, true
	if c.wish.Side != Inside {
		kernel, same = c.expr.Untranslated()
	}
	c.loose = !same || c.wish.Side != Inside
	program, err := kernel.Compile(c.wish.Snap)
	if err != nil {
		return err
	}
	if c.wish.Side != Host {
		for _, e := range c.box.Endpoints {
			if e.IfName != "" {
				c.places = append(c.places, place{Link{c.wish.Container + ":" + e.IfName, "inside of container " + c.wish.Container + ", network " + e.NetworkName},
					c.box.Path, e.IfName, true, program})
			}
		}
	}
	if c.wish.Side != Inside {
		outside, err := filter.And(filter.IP(), kernel).Compile(c.wish.Snap)
		if err != nil {
			return err
		}
		uplinks, err := c.uplinks(ctx)
		if err != nil {
			return err
		}
		for _, dev := range uplinks {
			c.places = append(c.places, place{Link{"host:" + dev, "the host's interface " + dev + ", flows of container " + c.wish.Container + " only"}, "", dev, false, outside})
		}
	}
	if len(c.places) == 0 {
		return cnm.Conflict("there is no interface to capture at: the host has no uplink that is up")
	}
	return nil
}

// uplinks are the host's interfaces that are up and not ours.
func (c *Capture) uplinks(ctx context.Context) (out []string, err error) {
	links, err := c.src.World.Kernel.Interfaces(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("the host's interfaces: %w", err)
	}
	objects, err := c.src.World.Declared.Objects(ctx)
	if err != nil {
		return nil, fmt.Errorf("what is declared: %w", err)
	}
	ours := map[string]bool{"lo": true}
	for _, o := range objects {
		if name, ok := strings.CutPrefix(o.Key(), "link "); ok {
			ours[name] = true
		}
	}
	for _, l := range links {
		if l.Up && !ours[l.Name] && l.Kind != "bridge" && !ours[l.Master] {
			out = append(out, l.Name)
		}
	}
	slices.Sort(out)
	if len(out) > placesMost {
		return nil, cnm.Invalid("the host has %d interfaces that may be uplinks, more than the %d that are captured at together: say --side inside", len(out), placesMost)
	}
	return out, nil
}

// placesMost bounds the interfaces of one capture: each has a ring of 4 MiB.
const placesMost = 16

// errEnough ends a capture from within.
var errEnough = errors.New("enough packets")
