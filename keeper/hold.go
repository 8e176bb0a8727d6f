package keeper

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Lost is a request whose port someone else has.
type Lost struct {
	Request PortRequest
	Err     *PortError
}

// mostParts bounds into how many parts a range is taken apart by ports in it that
// someone else has; beyond that the rest counts as lost.
const mostParts = 64

// Hold reserves what can be had of reqs: all of them, or, where one is taken, each
// by itself, and of a range the parts around what is taken (a program that connects
// to somewhere has one of its ports). What is held already is success. Any other
// error than a *PortError ends it.
func Hold(ctx context.Context, k Keeper, reqs []PortRequest) (lost []Lost, err error) {
	err = k.Reserve(ctx, reqs)
	if pe := (*PortError)(nil); !errors.As(err, &pe) {
		return nil, err
	}
	held, err := k.Ports(ctx)
	if err != nil {
		return nil, err
	}
	for _, q := range reqs {
		todo := q.without(held)
		for n := 0; len(todo) > 0; n++ {
			part := todo[0]
			todo = todo[1:]
			var pe *PortError
			err := k.Reserve(ctx, []PortRequest{part})
			if err == nil {
				continue
			}
			if !errors.As(err, &pe) {
				return lost, err
			}
			apart := pe.Errno == int(unix.EADDRINUSE) && part.Port < part.PortEnd && part.Port <= pe.Port && pe.Port <= part.PortEnd
			if !apart || n >= mostParts {
				lost = append(lost, Lost{part, pe})
				continue
			}
			lost = append(lost, Lost{part.part(pe.Port, pe.Port), pe})
			if part.Port < pe.Port {
				todo = append(todo, part.part(part.Port, pe.Port-1))
			}
			if pe.Port < part.PortEnd {
				todo = append(todo, part.part(pe.Port+1, part.PortEnd))
			}
		}
	}
	return lost, nil
}

// part is a part of a range.
func (q PortRequest) part(first, last uint16) PortRequest {
	if q.ForwardTo.IsValid() {
		q.ForwardTo = netip.AddrPortFrom(q.ForwardTo.Addr(), q.ForwardTo.Port()+(first-q.Port))
	}
	q.Port, q.PortEnd = first, last
	return q
}

// without takes a range apart into what its owner holds of it, which may lead
// elsewhere now, and what is missing. held is sorted, as Ports is.
func (q PortRequest) without(held []PortRequest) (parts []PortRequest) {
	if q.PortEnd <= q.Port {
		return []PortRequest{q}
	}
	next := int(q.Port)
	for _, h := range held {
		if h.Owner != q.Owner || h.Proto != q.Proto || h.Addr != q.Addr || h.Port < q.Port || h.PortEnd > q.PortEnd || int(h.Port) < next {
			continue
		}
		if next < int(h.Port) {
			parts = append(parts, q.part(uint16(next), h.Port-1))
		}
		parts = append(parts, q.part(h.Port, h.PortEnd))
		next = int(h.PortEnd) + 1
	}
	if next <= int(q.PortEnd) {
		parts = append(parts, q.part(uint16(next), q.PortEnd))
	}
	return parts
}

// Holder goes on trying to reserve ports that someone else took while no keeper
// was there: after a keeper's death its ports are free for some milliseconds. Until
// then the published port works, since the kernel translates it; but who took it is
// not reached, and what the keeper forwards ([::1], IPv6 to IPv4) stands still.
type Holder struct {
	k           Keeper
	logger      *slog.Logger
	first, most time.Duration
	wake        chan struct{}

	mu     sync.Mutex // after wanted.mu
	wanted map[string]*wanted
}

// wanted is what one owner has lost.
type wanted struct {
	mu   sync.Mutex // held during a try
	name string
	reqs []PortRequest
	told map[PortRequest]bool // the lost ones, by key
	gone bool
}

// NewHolder makes one; Run does the work.
func NewHolder(k Keeper, logger *slog.Logger) *Holder {
	return &Holder{k: k, logger: logger, first: time.Second, most: 30 * time.Second, wake: make(chan struct{}, 1), wanted: map[string]*wanted{}}
}

// Hold reserves an owner's ports, as far as they can be had, and goes on trying to
// get the others. name is what people call the owner. An error is the keeper's: it
// is away, and Supervise's next call tries all again.
func (h *Holder) Hold(ctx context.Context, owner, name string, reqs []PortRequest) error {
	w := &wanted{name: name, reqs: reqs}
	h.mu.Lock()
	former := h.wanted[owner]
	h.wanted[owner] = w
	h.mu.Unlock()
	if former != nil {
		former.mu.Lock()
		former.gone, w.told = true, former.told
		former.mu.Unlock()
	}
	err := h.try(ctx, owner, w)
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return err
}

// Forget ends it for an owner; when it returns, nothing more is reserved for it.
// Call it before Release.
func (h *Holder) Forget(owner string) {
	h.mu.Lock()
	w := h.wanted[owner]
	delete(h.wanted, owner)
	h.mu.Unlock()
	if w != nil {
		w.mu.Lock()
		w.gone = true
		w.mu.Unlock()
	}
}

// Tries says whether something of an owner's is still tried.
func (h *Holder) Tries(owner string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wanted[owner] != nil
}

// Lost lists what is still tried, by owner.
func (h *Holder) Lost() map[string][]PortRequest {
	out := map[string][]PortRequest{}
	for owner, w := range h.all() {
		w.mu.Lock()
		out[owner] = append(out[owner], w.reqs...)
		w.mu.Unlock()
	}
	return out
}

func (h *Holder) all() map[string]*wanted {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.wanted)
}

// try reserves what is missing, and tells a loss and its end once each.
func (h *Holder) try(ctx context.Context, owner string, w *wanted) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return nil
	}
	lost, err := Hold(ctx, h.k, w.reqs)
	if err != nil {
		return err
	}
	var left []PortRequest
	told := map[PortRequest]bool{}
	for _, l := range lost {
		if l.Request.Addr == netip.IPv6Unspecified() && (l.Err.Errno == int(unix.EAFNOSUPPORT) || l.Err.Errno == int(unix.EADDRNOTAVAIL)) {
			continue // the host has no IPv6: nobody took it, and nobody can
		}
		left = append(left, l.Request)
		told[l.Request.key()] = true
		if !w.told[l.Request.key()] {
			h.logger.Warn("a host port was lost to another program while the keeper was replaced; the kernel goes on leading it to the container, and it is reserved again as soon as it is free",
				"container", w.name, "port", l.Request.String(), "err", l.Err)
		}
	}
	if n := len(w.told) - len(told); n > 0 {
		h.logger.Info("lost host ports are reserved again", "container", w.name, "ports", n, "still_lost", len(left))
	}
	w.reqs, w.told = left, told
	if len(left) == 0 {
		h.mu.Lock()
		if h.wanted[owner] == w {
			delete(h.wanted, owner)
		}
		h.mu.Unlock()
	}
	return nil
}

// Run tries until ctx ends: after one second, then twice as long each time, up to
// thirty.
func (h *Holder) Run(ctx context.Context) {
	for wait := h.first; ; {
		all := h.all()
		var timer <-chan time.Time
		if len(all) > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
			wait = h.first
			continue
		case <-timer:
		}
		wait = min(2*wait, h.most)
		for owner, w := range all {
			_ = h.try(ctx, owner, w) // a keeper that is away is Supervise's to tell
		}
	}
}
