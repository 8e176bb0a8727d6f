package filter

import (
	"encoding/binary"
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
)

// Of linux/filter.h and bpf_common.h.
const (
	opLoadWord = 0x20 // ld [k]
	opLoadHalf = 0x28 // ldh [k]
	opLoadByte = 0x30 // ldb [k]
	opLoadInd  = 0x48 // ldh [x + k]
	opHeader   = 0xb1 // ldx 4*([k]&0xf)
	opAnd      = 0x54 // and #k
	opJump     = 0x05 // ja
	opEqual    = 0x15 // jeq #k
	opGreater  = 0x25 // jgt #k
	opAtLeast  = 0x35 // jge #k
	opBits     = 0x45 // jset #k
	opReturn   = 0x06 // ret #k
)

// most is the kernel's limit (BPF_MAXINSNS).
const most = 4096

// Offsets in an Ethernet frame.
const (
	atType  = 12
	atProto = ethernet + 9 // IPv4
	atFrag  = ethernet + 6
	atSrc   = ethernet + 12
	atDst   = ethernet + 16
	atNext  = ethernet + 6 // IPv6
	atSrc6  = ethernet + 8
	atDst6  = ethernet + 24
	atFrom  = ethernet + 14 // ARP
	atTo    = ethernet + 24
	head6   = ethernet + 40
)

var numbers = map[string]uint32{"icmp": 1, "tcp": 6, "udp": 17, "icmp6": 58, "sctp": 132}

// Compile makes a program for Ethernet frames that takes snap bytes of what passes. The
// nil Expr takes everything.
func (e *Expr) Compile(snap int) ([]reading.Instruction, error) {
	c := &compiler{}
	yes, no := c.label(), c.label()
	if e != nil {
		c.gen(e.root, yes, no)
	}
	c.place(yes)
	c.emit(opReturn, uint32(snap))
	c.place(no)
	c.emit(opReturn, 0)
	return c.assemble()
}

type label int

type step struct {
	op     uint16
	k      uint32
	jt, jf label // of conditional jumps
	cond   bool
}

type compiler struct {
	steps []step
	where []int // by label: the step that it is before
}

func (c *compiler) label() label {
	c.where = append(c.where, -1)
	return label(len(c.where) - 1)
}

func (c *compiler) place(l label)            { c.where[l] = len(c.steps) }
func (c *compiler) emit(op uint16, k uint32) { c.steps = append(c.steps, step{op: op, k: k}) }

func (c *compiler) branch(op uint16, k uint32, jt, jf label) {
	c.steps = append(c.steps, step{op: op, k: k, jt: jt, jf: jf, cond: true})
}

// test jumps on, to the next step, where the condition holds.
func (c *compiler) test(op uint16, k uint32, jf label) {
	on := c.label()
	c.branch(op, k, on, jf)
	c.place(on)
}

// gen makes code that ends in yes or in no.
func (c *compiler) gen(n node, yes, no label) {
	switch n := n.(type) {
	case all:
		if n {
			c.jump(yes)
		} else {
			c.jump(no)
		}
	case not:
		c.gen(n.x, no, yes)
	case and:
		second := c.label()
		c.gen(n.l, second, no)
		c.place(second)
		c.gen(n.r, yes, no)
	case or:
		second := c.label()
		c.gen(n.l, yes, second)
		c.place(second)
		c.gen(n.r, yes, no)
	case proto:
		c.proto(n.name, yes, no)
	case addrs:
		c.addrs(n, yes, no)
	case ports:
		c.ports(n, yes, no)
	}
}

// jump is an unconditional one, as a condition with one answer.
func (c *compiler) jump(l label) { c.branch(opAtLeast, 0, l, l) }

var types = map[string]uint32{"ip": 0x0800, "ip6": 0x86dd, "arp": 0x0806}

func (c *compiler) proto(name string, yes, no label) {
	c.emit(opLoadHalf, atType)
	if t, ok := types[name]; ok {
		c.branch(opEqual, t, yes, no)
		return
	}
	six := c.label()
	if name != "icmp6" {
		ip4, other := c.label(), six
		if name == "icmp" {
			other = no
		}
		c.branch(opEqual, types["ip"], ip4, other)
		c.place(ip4)
		c.emit(opLoadByte, atProto)
		c.branch(opEqual, numbers[name], yes, no)
	}
	if name != "icmp" {
		c.place(six)
		c.test(opEqual, types["ip6"], no)
		c.emit(opLoadByte, atNext)
		frag := c.label()
		c.branch(opEqual, numbers[name], yes, frag)
		c.place(frag)
		c.test(opEqual, 44, no) // behind a fragment header, as pcap does
		c.emit(opLoadByte, head6)
		c.branch(opEqual, numbers[name], yes, no)
	}
}

func (c *compiler) addrs(n addrs, yes, no label) {
	c.emit(opLoadHalf, atType)
	if n.prefix.Addr().Is6() {
		c.test(opEqual, types["ip6"], no)
		c.pair(n.dir, func(src bool, yes, no label) { c.prefix6(n.prefix, src, yes, no) }, yes, no)
		return
	}
	arp := c.label()
	if n.family != "arp" {
		other := arp
		if n.family == "ip" {
			other = no
		}
		c.test(opEqual, types["ip"], other)
		c.pair(n.dir, func(src bool, yes, no label) { c.prefix4(n.prefix, pick(src, atSrc, atDst), yes, no) }, yes, no)
	}
	if n.family != "ip" {
		c.place(arp)
		c.test(opEqual, types["arp"], no)
		c.pair(n.dir, func(src bool, yes, no label) { c.prefix4(n.prefix, pick(src, atFrom, atTo), yes, no) }, yes, no)
	}
}

func pick(first bool, a, b uint32) uint32 {
	if first {
		return a
	}
	return b
}

// pair asks of source and destination what the direction wants.
func (c *compiler) pair(d direction, one func(src bool, yes, no label), yes, no label) {
	switch d {
	case src, dst:
		one(d == src, yes, no)
	default:
		second := c.label()
		if d == either {
			one(true, yes, second)
		} else {
			one(true, second, no)
		}
		c.place(second)
		one(false, yes, no)
	}
}

func (c *compiler) prefix4(p netip.Prefix, at uint32, yes, no label) {
	a := p.Addr().As4()
	c.word(at, binary.BigEndian.Uint32(a[:]), p.Bits(), yes, no)
}

func (c *compiler) prefix6(p netip.Prefix, src bool, yes, no label) {
	a := p.Addr().As16()
	at := pick(src, atSrc6, atDst6)
	for i, bits := uint32(0), p.Bits(); ; i, bits = i+1, bits-32 {
		v := binary.BigEndian.Uint32(a[4*i:])
		if bits <= 32 {
			c.word(at+4*i, v, max(bits, 0), yes, no)
			return
		}
		next := c.label()
		c.word(at+4*i, v, 32, next, no)
		c.place(next)
	}
}

// word compares the first bits of a word.
func (c *compiler) word(at, v uint32, bits int, yes, no label) {
	if bits == 0 {
		c.jump(yes)
		return
	}
	c.emit(opLoadWord, at)
	if mask := ^uint32(0) << (32 - bits); bits < 32 {
		c.emit(opAnd, mask)
		v &= mask
	}
	c.branch(opEqual, v, yes, no)
}

func (c *compiler) ports(n ports, yes, no label) {
	six := c.label()
	c.emit(opLoadHalf, atType)
	c.test(opEqual, types["ip"], six)
	c.emit(opLoadByte, atProto)
	c.anyOf(n.proto, no)
	c.emit(opLoadHalf, atFrag)
	first := c.label()
	c.branch(opBits, 0x1fff, no, first)
	c.place(first)
	c.emit(opHeader, ethernet)
	c.pair(n.dir, func(src bool, yes, no label) {
		c.emit(opLoadInd, ethernet+pick(src, 0, 2))
		c.within(n, yes, no)
	}, yes, no)
	c.place(six)
	c.test(opEqual, types["ip6"], no)
	c.emit(opLoadByte, atNext)
	c.anyOf(n.proto, no)
	c.pair(n.dir, func(src bool, yes, no label) {
		c.emit(opLoadHalf, head6+pick(src, 0, 2))
		c.within(n, yes, no)
	}, yes, no)
}

// anyOf goes on where the loaded number is a protocol's with such ports.
func (c *compiler) anyOf(name string, no label) {
	on := c.label()
	names := withPorts(name)
	for i, p := range names {
		other := no
		if i < len(names)-1 {
			other = c.label()
		}
		c.branch(opEqual, numbers[p], on, other)
		if other != no {
			c.place(other)
		}
	}
	c.place(on)
}

func (c *compiler) within(n ports, yes, no label) {
	if n.from == n.to {
		c.branch(opEqual, uint32(n.from), yes, no)
		return
	}
	c.test(opAtLeast, uint32(n.from), no)
	c.branch(opGreater, uint32(n.to), no, yes)
}

// assemble turns labels into offsets. A conditional jump reaches 255 steps; where that
// is too short, each becomes one over two jumps that reach everywhere.
func (c *compiler) assemble() ([]reading.Instruction, error) {
	long := false
	for i, s := range c.steps {
		if s.cond && (c.where[s.jt]-i-1 > 255 || c.where[s.jf]-i-1 > 255) {
			long = true
		}
	}
	size := func(s step) int {
		if s.cond && long {
			return 3
		}
		return 1
	}
	at := make([]int, len(c.steps)+1)
	for i, s := range c.steps {
		at[i+1] = at[i] + size(s)
	}
	if n := at[len(c.steps)]; n > most {
		return nil, cnm.Invalid("the filter is too long: it becomes %d instructions, and the kernel takes %d", n, most)
	}
	var out []reading.Instruction
	for i, s := range c.steps {
		in := reading.Instruction{Op: s.op, K: s.k}
		if !s.cond {
			out = append(out, in)
			continue
		}
		t, f := at[c.where[s.jt]], at[c.where[s.jf]]
		if !long {
			in.Jt, in.Jf = uint8(t-at[i]-1), uint8(f-at[i]-1)
			out = append(out, in)
			continue
		}
		in.Jf = 1
		out = append(out, in, reading.Instruction{Op: opJump, K: uint32(t - at[i] - 2)}, reading.Instruction{Op: opJump, K: uint32(f - at[i] - 3)})
	}
	return out, nil
}
