package reading

import (
	"context"
	"net/netip"
	"time"
)

// Tap listens to what passes. Each method but Connections runs until ctx ends (its error is nil then)
// or the kernel refuses; ns is as Reader's. fn is called by one goroutine at a time
// with what came since; what it gets is its own. Nothing is left behind.
type Tap interface {
	// Log follows an NFLOG group. A group has one reader in a namespace: where another
	// reads it the error is EBUSY. lost counts what the kernel could not deliver.
	Log(ctx context.Context, ns string, group uint16, fn func(batch []Logged, lost int)) error
	// Changes follows conntrack: these kinds, or all where there is none. lost counts how
	// many times the kernel had more to tell than was read (it does not say how much).
	Changes(ctx context.Context, ns string, kinds []string, fn func(batch []FlowChange, lost int)) error
	// Connections are the TCP sockets of a namespace that are connected to another host:
	// what passes within one network no conntrack sees.
	Connections(ctx context.Context, ns string) ([]Connection, error)
	// Capture copies frames at one interface. started, when not nil, is called once when
	// no packet can be missed any more.
	Capture(ctx context.Context, ns string, w CaptureWish, started func(), fn func(batch []Frame)) (CaptureCount, error)
}

// Logged is a packet that a rule logged.
type Logged struct {
	Time time.Time
	// Prefix is the rule's ("ls:unpublished").
	Prefix string
	// In and Out are interfaces, PhysIn and PhysOut a bridge's ports, "" where there is none.
	In, Out         string
	PhysIn, PhysOut string
	Packet          Packet
}

// The kinds of FlowChange.
const (
	FlowNew     = "new"
	FlowUpdate  = "update"
	FlowDestroy = "end"
)

// FlowChange is what became of a conntrack entry.
type FlowChange struct {
	Kind string
	Time time.Time // when it was read
	Flow Flow
}

// CaptureWish says what to copy.
type CaptureWish struct {
	Link string
	// Filter is classic BPF (socket(7), SO_ATTACH_FILTER); nil: everything.
	Filter []Instruction
	// Snap bounds what is copied of a packet, in bytes.
	Snap int
}

// Instruction is one of classic BPF (linux/filter.h: struct sock_filter).
type Instruction struct {
	Op     uint16
	Jt, Jf uint8
	K      uint32
}

// Frame is one captured packet with its link header; Ethernet's is made up where the
// interface has none.
type Frame struct {
	Time time.Time
	Data []byte
	// Length is the packet's own, of which Data has at most Snap.
	Length int
	// Out: this host sent it.
	Out bool
}

// CaptureCount is what a capture saw.
type CaptureCount struct {
	Received uint64 // passed the filter
	Dropped  uint64 // of these, lost because nobody took them in time
}

// Connection is one of TCP, as a socket of its namespace has it.
type Connection struct {
	Local, Remote netip.AddrPort
	State         string // "ESTABLISHED", "SYN_SENT", …
	// What the socket's owner sent (and the other side acknowledged) and received.
	SentBytes, SentPackets, BackBytes, BackPackets uint64
	// Served: somebody listens on the local port, so that the other side began it.
	Served bool
}
