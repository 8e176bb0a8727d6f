package linux

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// rtnl is a routing netlink socket of one network namespace. It may be used from
// any goroutine: the library's socket lock lets one request through at a time.
type rtnl struct {
	sockets map[int]*nl.SocketHandle
	pid     uint32 // the socket's address, which the kernel names as who did it
}

// newRTNL opens the socket in the calling thread's namespace; the socket stays
// in it, whatever the thread does afterwards (network_namespaces(7)).
func newRTNL() (*rtnl, error) {
	s, err := nl.GetNetlinkSocketAt(-1, -1, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open routing netlink socket: %w", err)
	}
	// The kernel's own words for a refusal ("RTNETLINK: Device does not allow …").
	_ = s.SetExtAck(true)
	pid, err := s.GetPid()
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open routing netlink socket: %w", err)
	}
	return &rtnl{map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}, pid}, nil
}

func (c *rtnl) close() {
	for _, s := range c.sockets {
		s.Close()
	}
}

func (c *rtnl) request(typ, flags int, parts ...nl.NetlinkRequestData) *nl.NetlinkRequest {
	return &nl.NetlinkRequest{
		NlMsghdr: unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: uint16(typ), Flags: unix.NLM_F_REQUEST | uint16(flags)},
		Data:     parts,
		Sockets:  c.sockets,
	}
}

// do sends one request and waits for its acknowledgement.
func (c *rtnl) do(typ, flags int, parts ...nl.NetlinkRequestData) error {
	_, err := c.request(typ, flags|unix.NLM_F_ACK, parts...).Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// get sends one request whose answer is one message.
func (c *rtnl) get(typ, answer int, parts ...nl.NetlinkRequestData) ([]byte, error) {
	msgs, err := c.request(typ, 0, parts...).Execute(unix.NETLINK_ROUTE, uint16(answer))
	if err != nil {
		return nil, err
	}
	if len(msgs) == 0 {
		return nil, unix.ENOENT
	}
	return msgs[0], nil
}

// dumpTries bounds the repeats of a dump that the kernel marks as interrupted
// by a change (NLM_F_DUMP_INTR): its answer may lack objects, and a plan made of
// it would create them again.
const dumpTries = 20

func (c *rtnl) dump(typ, answer int, parts ...nl.NetlinkRequestData) (msgs [][]byte, err error) {
	for range dumpTries {
		msgs, err = c.request(typ, unix.NLM_F_DUMP, parts...).Execute(unix.NETLINK_ROUTE, uint16(answer))
		if !errors.Is(err, nl.ErrDumpInterrupted) && !errors.Is(err, unix.EINTR) {
			return msgs, err
		}
	}
	return nil, fmt.Errorf("the kernel's tables kept changing while they were read: %w", err)
}

func u32(typ int, v uint32) *nl.RtAttr     { return nl.NewRtAttr(typ, nl.Uint32Attr(v)) }
func str(typ int, s string) *nl.RtAttr     { return nl.NewRtAttr(typ, nl.ZeroTerminated(s)) }
func bytesOf(typ int, b []byte) *nl.RtAttr { return nl.NewRtAttr(typ, b) }
func nest(typ int, in ...*nl.RtAttr) *nl.RtAttr {
	a := nl.NewRtAttr(typ|unix.NLA_F_NESTED, nil)
	for _, c := range in {
		a.AddChild(c)
	}
	return a
}

// eachAttr walks the attributes of a message or a nested attribute.
func eachAttr(b []byte, fn func(typ int, data []byte)) {
	ne := nl.NativeEndian()
	for len(b) >= unix.SizeofRtAttr {
		n, t := int(ne.Uint16(b)), int(ne.Uint16(b[2:]))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		fn(t&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		n = (n + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1)
		if n > len(b) {
			return
		}
		b = b[n:]
	}
}
