package ruleset

// Expr is one expression of a rule: the kernel evaluates them one after another, until
// one says no (a "break") or a verdict is there. They work on registers.
type Expr interface{ expr() }

// Register is the kernel's number of one (nf_tables.h): 1-4 are of 16 bytes, from 8 on
// the same memory in words of 4. 0 is the verdict's, or none.
type Register uint32

// Compare operators (enum nft_cmp_ops).
const (
	cmpEq = iota
	cmpNeq
	cmpLt
	cmpLte
	cmpGt
	cmpGte
)

type (
	// Immediate puts a value into a register, or is the rule's verdict.
	Immediate struct {
		To      Register
		Value   []byte
		Verdict *Verdict
	}
	// Meta reads, or with From sets, what belongs to a packet without being in it.
	Meta struct {
		To, From Register
		Key      uint32
	}
	// Payload reads, or with From writes, bytes of the packet.
	Payload struct {
		To, From          Register
		Base, Offset, Len uint32
	}
	// Cmp compares a register with a value.
	Cmp struct {
		From  Register
		Op    uint32
		Value []byte
	}
	// Range compares a register with two.
	Range struct {
		From      Register
		Op        uint32
		Low, High []byte
	}
	// Bitwise is mask and xor, or a shift by Value.
	Bitwise struct {
		From, To  Register
		Len, Op   uint32
		Mask, Xor []byte
		Shift     uint32
		From2     Register // the other side of and, or, xor (Linux 6.13)
	}
	// Byteorder swaps bytes.
	Byteorder struct {
		From, To      Register
		Op, Len, Size uint32
	}
	// Lookup asks a set; with To (or a verdict map) it brings the element's data.
	Lookup struct {
		Set      string
		From, To Register
		Data     bool // To is meant, even when it is 0: the verdict
		Not      bool
	}
	// CT reads, or with From sets, conntrack's view.
	CT struct {
		To, From Register
		Key      uint32
		Dir      int // -1: none, 0: original, 1: reply
	}
	// FIB asks the routing table.
	FIB struct {
		To            Register
		Result, Flags uint32
	}
	// RT reads the packet's route.
	RT struct {
		To  Register
		Key uint32
	}
	// NAT is snat or dnat.
	NAT struct {
		Dest                         bool // dnat
		Family                       uint32
		Addr, AddrMax, Port, PortMax Register
		Flags                        uint32
	}
	// Masq is masquerade.
	Masq struct {
		Port, PortMax Register
		Flags         uint32
	}
	// Redir is redirect.
	Redir struct {
		Port, PortMax Register
		Flags         uint32
	}
	// Reject ends a packet with an answer.
	Reject struct{ Type, Code uint32 }
	// Counter, with its values.
	Counter struct{ Packets, Bytes uint64 }
	// Log writes a line, or tells an NFLOG group.
	Log struct {
		Prefix string
		Group  int // -1: the kernel's log
		Level  uint32
		Flags  uint32
		Snap   uint32 // bytes of the packet that the group gets
	}
	// Limit matches up to a rate; Over: beyond it.
	Limit struct {
		Rate, Unit  uint64
		Burst       uint32
		Bytes, Over bool
	}
	// Quota matches until so many bytes have passed; Over: from then on.
	Quota struct {
		Bytes, Consumed uint64
		Over            bool
	}
	// ConnLimit matches up to a number of connections; Over: beyond it.
	ConnLimit struct {
		Count uint32
		Over  bool
	}
	// Notrack keeps conntrack away.
	Notrack struct{}
	// Numgen and Hash make numbers.
	Numgen struct {
		To                    Register
		Modulus, Type, Offset uint32
	}
	Hash struct {
		From, To                   Register
		Len, Modulus, Offset, Type uint32
	}
	// ExtHdr reads, or with From writes, IPv6 extension headers and TCP options.
	ExtHdr struct {
		To, From                     Register
		Type, Offset, Len, Flags, Op uint32
	}
	// Dynset adds to a set from the packet path.
	Dynset struct {
		Set       string
		Op        uint32
		Key, Data Register
		Not       bool
		Exprs     []Expr
	}
	// ObjRef asks a named object, directly or by a map.
	ObjRef struct {
		Type uint32
		Name string
		From Register
		Set  string
	}
	// Queue hands over to a program.
	Queue struct{ Num, Total, Flags uint32 }
	// Dup copies the packet elsewhere, Fwd sends it there instead.
	Dup struct{ Addr, Dev Register }
	Fwd struct{ Addr, Dev Register }
	// TProxy gives the packet to a local socket.
	TProxy struct {
		Family     uint32
		Addr, Port Register
	}
	// Socket reads of the socket that the packet is for.
	Socket struct {
		To  Register
		Key uint32
	}
	// Last remembers when it was last reached.
	Last struct{}
	// Offload puts the flow into a flow table.
	Offload struct{ Table string }
	// Match and Target are iptables extensions in nftables' rules ("xt").
	Match struct {
		Name string
		Rev  uint32
		Info []byte
	}
	Target struct {
		Name string
		Rev  uint32
		Info []byte
	}
	// Unknown is what this package does not know.
	Unknown struct{ Name string }
)

func (Immediate) expr() {}
func (Meta) expr()      {}
func (Payload) expr()   {}
func (Cmp) expr()       {}
func (Range) expr()     {}
func (Bitwise) expr()   {}
func (Byteorder) expr() {}
func (Lookup) expr()    {}
func (CT) expr()        {}
func (FIB) expr()       {}
func (RT) expr()        {}
func (NAT) expr()       {}
func (Masq) expr()      {}
func (Redir) expr()     {}
func (Reject) expr()    {}
func (Counter) expr()   {}
func (Log) expr()       {}
func (Limit) expr()     {}
func (Quota) expr()     {}
func (ConnLimit) expr() {}
func (Notrack) expr()   {}
func (Numgen) expr()    {}
func (Hash) expr()      {}
func (ExtHdr) expr()    {}
func (Dynset) expr()    {}
func (ObjRef) expr()    {}
func (Queue) expr()     {}
func (Dup) expr()       {}
func (Fwd) expr()       {}
func (TProxy) expr()    {}
func (Socket) expr()    {}
func (Last) expr()      {}
func (Offload) expr()   {}
func (Match) expr()     {}
func (Target) expr()    {}
func (Unknown) expr()   {}

// Verdict is what a rule or an element says.
type Verdict struct {
	// Code is "accept", "drop", "continue", "break", "return", "jump", "goto", "queue",
	// "stolen" or "repeat".
	Code  string `json:"code"`
	Chain string `json:"chain,omitempty"` // of jump and goto
}

func (v Verdict) String() string {
	if v.Chain != "" {
		return v.Code + " " + v.Chain
	}
	return v.Code
}
