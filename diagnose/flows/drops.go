package flows

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"linkspan/dataplane/reading"
)

// Kept is how many drops are remembered.
const Kept = 1000

// Drops hears what our rules drop, and remembers the last of it. A nil *Drops has
// heard nothing. It is safe for concurrent use.
type Drops struct {
	names *Names
	tap   reading.Tap
	group uint16
	// people is the group that is free for their tools.
	people uint16
	log    *slog.Logger

	mu    sync.Mutex
	ring  []Drop // a ring once it is full
	next  int
	lost  uint64
	deaf  error
	later map[*listener]bool
}

// DropsConfig is what Drops needs.
type DropsConfig struct {
	Names *Names
	Tap   reading.Tap
	// Group is the NFLOG group of the page that is read, People the one that is free for
	// their tools (dataplane.DropGroups).
	Group, People uint16
	Log           *slog.Logger
}

// NewDrops makes one; Run has it hear.
func NewDrops(c DropsConfig) *Drops {
	return &Drops{names: c.Names, tap: c.Tap, group: c.Group, people: c.People, log: c.Log, later: map[*listener]bool{}}
}

// Waits between attempts to hear.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// Run hears until ctx ends. While the kernel refuses, it says so once and tries again:
// nothing else depends on it.
func (d *Drops) Run(ctx context.Context) {
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		began := time.Now()
		err := d.tap.Log(ctx, "", d.group, func(batch []reading.Logged, lost int) { d.take(ctx, batch, lost) })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended")
		}
		if time.Since(began) > retryMost {
			wait = retryFirst
		}
		if d.deafen(err) {
			d.log.Warn("dropped packets are not told: "+err.Error()+deafCure(err), "group", d.group)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// deafCure is what a person can do.
func deafCure(err error) string {
	switch {
	case errors.Is(err, syscall.EBUSY):
		return "; end what reads it (the next group has the same, for people's tools)"
	case errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EOPNOTSUPP):
		return "; this kernel has no nfnetlink_log (modprobe nfnetlink_log)"
	}
	return ""
}

func (d *Drops) deafen(err error) (news bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	news = err != nil && (d.deaf == nil || d.deaf.Error() != err.Error())
	d.deaf = err
	return news
}

func (d *Drops) take(ctx context.Context, batch []reading.Logged, lost int) {
	// Names first: the lock is not held while the world is read.
	var all []Drop
	for _, l := range batch {
		if !l.Packet.Src.IsValid() {
			continue // not an IP packet: no rule of ours logs one
		}
		from, to := d.names.At(ctx, l.Packet.Src, l.Packet.Dst)
		all = append(all, dropOf(l, from, to))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deaf = nil
	d.lost += uint64(lost)
	for _, drop := range all {
		if len(d.ring) < Kept {
			d.ring = append(d.ring, drop)
		} else {
			d.ring[d.next] = drop
			d.next = (d.next + 1) % Kept
		}
		for l := range d.later {
			l.give(drop)
		}
	}
}

// Recent are the remembered drops that match, the newest first.
func (d *Drops) Recent(m Match) (out []Drop) {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.ring {
		drop := d.ring[(d.next+len(d.ring)-1-i)%len(d.ring)]
		if m.fits(drop) {
			out = append(out, drop)
		}
	}
	return out
}

// List is Recent as it is shown, the oldest first.
func (d *Drops) List(m Match) *List {
	recent := d.Recent(m)
	l := &List{Drops: make([]Drop, 0, len(recent)), Notes: d.Notes(), PeopleGroup: d.people}
	for i := range recent {
		l.Drops = append(l.Drops, recent[len(recent)-1-i])
	}
	if len(recent) == 0 {
		l.Notes = append(l.Notes, fmt.Sprintf("no rule of Linkspan has dropped such a packet: there is none among the last %d since the daemon started", Kept))
	}
	return l
}

// Notes say what the list does not.
func (d *Drops) Notes() (notes []string) {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deaf != nil {
		notes = append(notes, "drops are not heard now: "+d.deaf.Error()+deafCure(d.deaf))
	}
	if d.lost > 0 {
		notes = append(notes, fmt.Sprintf("%d more were logged than could be read", d.lost))
	}
	return notes
}

// listener is one who follows.
type listener struct {
	match  Match
	drops  chan Drop
	missed int
}

// give never waits: who does not keep up misses some, and is told how many.
func (l *listener) give(d Drop) {
	if !l.match.fits(d) {
		return
	}
	select {
	case l.drops <- d:
	default:
		l.missed++
	}
}

// Follow gives what matches from now on, until ctx ends or fn fails. missed is how many
// were left out before this one because fn was too slow.
func (d *Drops) Follow(ctx context.Context, m Match, fn func(drop Drop, missed int) error) error {
	l := &listener{match: m, drops: make(chan Drop, 256)}
	d.mu.Lock()
	d.later[l] = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.later, l)
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case drop := <-l.drops:
			d.mu.Lock()
			missed := l.missed
			l.missed = 0
			d.mu.Unlock()
			if err := fn(drop, missed); err != nil {
				return err
			}
		}
	}
}

// Match looks up a container or a network, as a person writes it; "" is all.
func (d *Drops) Match(of string) (m Match, err error) {
	if of == "" {
		return m, nil
	}
	c, n, err := either(d.names.world, of)
	if err != nil {
		return m, err
	}
	if n != "" {
		net, err := d.names.world.Network(n)
		if err != nil {
			return m, err
		}
		return Match{Network: net.Name}, nil
	}
	one, err := d.names.world.Container(c)
	if err != nil {
		return m, err
	}
	m.Container = one.ID
	// Of those that share a network stack, drops have the first one's name.
	if box, ok := d.names.world.Sandbox(one.ID); ok {
		m.Container = box.Owner
	}
	return m, nil
}
