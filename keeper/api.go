// Package keeper is the small process that outlives the daemon and the client
// side that the daemon uses. It holds what a connection or a container depends
// on in user space: container stdio and logs, attach streams, reserved host
// ports, forwarders that the kernel cannot do, encrypted tunnels where it has no
// WireGuard. It has no policy, no store and
// no netlink. It runs in the network namespace in which the daemon was started.
package keeper

import (
	"context"
	"net/netip"
	"os"
	"time"

	"linkspan/dns"
	"linkspan/wireguard"
)

// StreamSpec declares the stdio of one container or exec.
type StreamSpec struct {
	// ID is the container's or exec's full id.
	ID string
	// TTY: stdout carries everything raw, there is no stderr.
	TTY bool
	// Stdin: a stdin FIFO is made. StdinOnce: it closes when the first attached
	// client that sent stdin goes.
	Stdin, StdinOnce bool
	// LogPath is the json-file log to append to; empty: no log (exec).
	LogPath string
	// Log are the json-file options.
	Log LogOptions
}

// LogOptions are Docker's json-file options; the zero value is one file without
// bound.
type LogOptions struct {
	// MaxSize in bytes is when the file is rotated; 0: never. MaxFile is how many
	// files there are with the current one; 0 means 1. Compress gzips the old ones.
	MaxSize  int64 `json:",omitempty"`
	MaxFile  int   `json:",omitempty"`
	Compress bool  `json:",omitempty"`
	// Attrs go into every line (labels, env, tag), for `docker logs --details`.
	Attrs map[string]string `json:",omitempty"`
}

// Stream is where the shim finds the FIFOs of a declared stream.
type Stream struct {
	Stdin, Stdout, Stderr string // paths; empty when there is none
}

// StreamInfo is one stream as the keeper has it.
type StreamInfo struct {
	StreamSpec
	Started  bool // Started was called: EOF on the FIFOs ends the stream
	Ended    bool // every writer is gone and all output is in the log
	Attached int  // attached clients
	// StdinClosed: the keeper has closed its end of the stdin FIFO. The shim holds
	// another one, so the daemon must have called CloseIO for the process to read
	// EOF; a daemon that finds this after its own restart calls it again.
	StdinClosed bool
	// LogLost counts the bytes of output that could not be written to the log
	// (disk full); attached clients got them.
	LogLost uint64 `json:",omitempty"`
}

// AttachOptions say what a client of a stream wants.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	// Mux frames output with Docker's 8-byte stdcopy header; otherwise raw.
	Mux bool
	// DetachKeys is the byte sequence that ends the attachment, read from stdin
	// (tty only); empty: none.
	DetachKeys []byte
	// Pending are bytes that were already read from the client and belong to
	// stdin.
	Pending []byte
	// Replay is sent to the client before live output (logs=1), without a gap
	// nor a repetition: everything the log holds at the moment of attaching.
	Replay bool
}

// PortRequest is one reservation: a really bound socket on one host address
// and port (or a contiguous range), in the keeper's network namespace.
type PortRequest struct {
	// Owner is the sandbox id; Release works by owner.
	Owner string
	Proto string // "tcp", "udp", "sctp"
	// Addr is the address bound; 0.0.0.0 or :: for all of a family (IPv6 sockets
	// are always v6-only).
	Addr netip.Addr
	// Port and PortEnd bound the range, inclusive.
	Port, PortEnd uint16
	// ForwardTo, when valid, makes the socket listen (tcp) or relay (udp) to this
	// address, port by port from its Port upwards: what the kernel cannot DNAT,
	// [::1] and v6-to-v4 publishing. Otherwise the socket is bound and silent.
	ForwardTo netip.AddrPort
}

// PortError is a reservation that could not be had.
type PortError struct {
	Index int // which request
	Proto string
	Addr  netip.Addr
	Port  uint16
	Errno int // EADDRINUSE, EADDRNOTAVAIL, EACCES, …
}

// Info is who the keeper is.
type Info struct {
	PID      int
	Version  string
	Started  time.Time
	NetInode uint64 // its network namespace
}

// Keeper is what the daemon asks of it; *Client implements it over the socket.
// Methods are safe for concurrent use. When the keeper is away they answer
// cnm.ErrUnavailable.
type Keeper interface {
	Info(ctx context.Context) (Info, error)

	// OpenStream declares a stream and makes its FIFOs below the keeper's folder.
	// Declaring one that exists and has not ended returns it as it is; an ended
	// one starts anew (a restarted container) and appends to the same log.
	OpenStream(ctx context.Context, s StreamSpec) (Stream, error)
	// Started says that the shim has the FIFOs open: from now on the stream ends
	// when the last writer closes.
	Started(ctx context.Context, id string) error
	// Drain waits until the stream ended and its output is in the log and with
	// the attached clients. A stream that is not there counts as drained.
	Drain(ctx context.Context, id string) error
	// CloseStream forgets a stream and removes its FIFOs; attached clients are
	// closed. Closing one that is not there is success.
	CloseStream(ctx context.Context, id string) error
	// CloseStdin closes the stream's stdin FIFO, so that the process reads EOF.
	CloseStdin(ctx context.Context, id string) error
	// Attach hands a connected client socket over to the keeper, which serves it
	// until the stream ends, the client goes or detaches; it then closes it. The
	// client survives the daemon. Attach returns at once; detached is called (in
	// its own goroutine, at most once, not after the daemon's death) with true
	// when the client sent its detach keys.
	Attach(ctx context.Context, id string, o AttachOptions, client *os.File, ended func(detached bool)) error
	// Streams lists what the keeper holds.
	Streams(ctx context.Context) ([]StreamInfo, error)

	// Reserve binds all of the requests or none. On failure the error is a
	// *PortError. A request equal to one that its owner holds already is success.
	Reserve(ctx context.Context, reqs []PortRequest) error
	// Release closes an owner's sockets and forwarders; open forwarded
	// connections end too.
	Release(ctx context.Context, owner string) error
	// Ports lists the reservations.
	Ports(ctx context.Context) ([]PortRequest, error)
	// Retarget changes where the forwarders among an owner's reservations lead,
	// without letting go of a socket: reqs are the same requests with another
	// ForwardTo. Open forwarded connections go on.
	Retarget(ctx context.Context, reqs []PortRequest) error

	// SetView hands over a sandbox's resolver, or changes what one that is there
	// answers (sockets nil). The keeper closes its copies of the files on RemoveView.
	SetView(ctx context.Context, v dns.View, sockets *dns.Sockets) error
	// RemoveView ends a sandbox's resolver. One that is not there is success.
	RemoveView(ctx context.Context, sandbox string) error
	// Views lists the sandboxes whose resolver the keeper holds.
	Views(ctx context.Context) ([]string, error)
	// SetNames puts records into a zone (a network's id), each in place of the one
	// of the same endpoint; whole says that the zone has no others.
	SetNames(ctx context.Context, zone string, records []dns.Record, whole bool) error
	// RemoveNames takes endpoints' records out of a zone.
	RemoveNames(ctx context.Context, zone string, endpoints []string) error
	// KeepZones forgets all zones but these.
	KeepZones(ctx context.Context, zones []string) error

	// SetTunnel makes an encrypted tunnel (WireGuard in user space, on a TUN device in
	// the keeper's network namespace), or changes one by what is different. It errs with
	// cnm.ErrConflict when another has the UDP port or the device's name.
	SetTunnel(ctx context.Context, c wireguard.Config) error
	// RemoveTunnel ends a tunnel, and its network device. One that is not there is success.
	RemoveTunnel(ctx context.Context, name string) error
	// Tunnels lists what the keeper holds, by name.
	Tunnels(ctx context.Context) ([]wireguard.Status, error)
}
