package why

// Code is the verdict in one stable word, for scripts: one cause, one code.
type Code string

// The verdicts. Meanings says what each is to a person.
const (
	OK Code = "ok"

	// What was asked for is not there, or does not run.
	NoSuchName Code = "no-such-name"
	NotRunning Code = "not-running"
	Paused     Code = "paused"

	// What was declared does not let it.
	NoSharedNetwork    Code = "no-shared-network"
	ICCOff             Code = "icc-off"
	Internal           Code = "internal"
	Isolated           Code = "isolated"
	Unpublished        Code = "unpublished"
	PublishedElsewhere Code = "published-elsewhere"
	NoAddressFamily    Code = "no-address-family"

	// Names.
	DNSWrong         Code = "dns-wrong"
	DNSNameElsewhere Code = "dns-name-elsewhere"

	// The program at the other end.
	NotListening     Code = "not-listening"
	ListensLoopback  Code = "listens-on-loopback"
	ListensElsewhere Code = "listens-elsewhere"
	NotAccepting     Code = "not-accepting"
	PortTaken        Code = "port-taken"
	Unhealthy        Code = "unhealthy" // a note: it is reached

	// Firewalls.
	HostFirewall      Code = "host-firewall"
	ContainerFirewall Code = "container-firewall"
	ForeignNAT        Code = "foreign-nat"
	OwnPageDamaged    Code = "own-page-damaged"
	NotAPeer          Code = "not-a-peer"
	PlainText         Code = "plain-text"

	// Other hosts.
	Forgotten   Code = "forgotten"
	PeerSilent  Code = "peer-silent"
	NoPath      Code = "no-path"
	TunnelEntry Code = "tunnel-entry"
	NoTunnel    Code = "no-tunnel"
	NotAsked    Code = "not-asked"

	// Routes and parameters of the kernel.
	NoRoute            Code = "no-route"
	WrongRoute         Code = "wrong-route"
	ForwardingOff      Code = "forwarding-off"
	RPFilter           Code = "rp-filter"
	MTU                Code = "mtu"
	ConntrackFull      Code = "conntrack-full"
	ConntrackStale     Code = "conntrack-stale"
	GatewayUnreachable Code = "gateway-unreachable"

	// Links, addresses, neighbours.
	LinkDown         Code = "link-down"
	LinkMissing      Code = "link-missing"
	WrongMaster      Code = "wrong-master"
	AddressMissing   Code = "address-missing"
	AddressConflict  Code = "address-conflict"
	NeighbourFailed  Code = "neighbour-failed"
	StaleNeighbour   Code = "stale-neighbour"
	FDBWrong         Code = "fdb-wrong"
	NamespaceMissing Code = "namespace-missing"
	PortBlocked      Code = "port-blocked"
	SysctlChanged    Code = "sysctl-changed"

	// Unknown: something could not be read, so that neither yes nor no is sure.
	Unknown Code = "unknown"
	// ProbeDisagrees: what was read says one thing, a real packet another.
	ProbeDisagrees Code = "probe-disagrees"
)

// Meaning is a code in a person's words, for the manual.
type Meaning struct {
	Code Code
	Text string
}

// Meanings are all codes, in the order in which the documentation has them.
var Meanings = []Meaning{
	{OK, "A reaches B."},
	{NoSuchName, "A knows nobody of that name."},
	{NotRunning, "A or B does not run: nothing can answer."},
	{Paused, "A or B is frozen: connections open, and nothing answers."},
	{NoSharedNetwork, "A and B are on no network in common, and networks are kept apart."},
	{ICCOff, "the network keeps its containers apart (icc=false), and no link opens the port."},
	{Internal, "the network is internal: nothing leaves or enters it."},
	{Isolated, "the network's gateway mode is isolated: even the host has no address on it."},
	{Unpublished, "the port is not published, so that it is closed to the outside."},
	{PublishedElsewhere, "the port is published on another address or another port."},
	{NoAddressFamily, "one of the two has no address of the family (IPv4, IPv6) that is needed."},
	{DNSWrong, "A's hosts file or resolver gives another answer than the engine's, or none."},
	{DNSNameElsewhere, "the name is known on a network that A is not on."},
	{NotListening, "nobody listens on the port."},
	{ListensLoopback, "who listens does so on 127.0.0.1 (or ::1) alone, which only B itself reaches."},
	{ListensElsewhere, "who listens does so on another port, protocol or address."},
	{NotAccepting, "who listens does not take connections any more: its queue is full, or it is stopped."},
	{PortTaken, "a process of the host holds the port."},
	{Unhealthy, "it is reached, but its health check fails (a note, not a no)."},
	{HostFirewall, "a rule of the host's that is not Linkspan's drops or refuses it."},
	{ContainerFirewall, "a rule inside a container's own namespace drops or refuses it."},
	{ForeignNAT, "a rule that is not Linkspan's sends it somewhere else."},
	{OwnPageDamaged, "Linkspan's own table is not as it should be: it was changed, or emptied."},
	{NotAPeer, "it came through a tunnel of the mesh from a host that is not of the mesh."},
	{PlainText, "the network is encrypted, and the packet is not: it is dropped on the way in and on the way out."},
	{Forgotten, "this host was forgotten by the mesh: it reaches none of the others."},
	{PeerSilent, "the other host is not heard of: it is down, or cut off, and the two look alike (an unknown, not a no)."},
	{NoPath, "there is no way to the other host for this network."},
	{TunnelEntry, "an entry that leads to a container on another host (neighbour, forwarding table) is gone or wrong."},
	{NoTunnel, "the encrypted tunnel to the other host does not stand."},
	{NotAsked, "the other host cannot be asked: only this host's half of the way was looked at (an unknown, not a no)."},
	{NoRoute, "there is no route, or one that refuses."},
	{WrongRoute, "a route leads it another way."},
	{ForwardingOff, "the kernel does not forward packets between interfaces."},
	{RPFilter, "the kernel drops it because the way back is another one (reverse path filter)."},
	{MTU, "large packets are lost: an interface on the way carries less, and nobody tells the sender."},
	{ConntrackFull, "the table of connections is full: new ones are dropped."},
	{ConntrackStale, "an old entry of the connection table sends it to who had the port before, or to nobody."},
	{GatewayUnreachable, "the next hop does not answer."},
	{LinkDown, "an interface on the way is down."},
	{LinkMissing, "an interface on the way is gone."},
	{WrongMaster, "an interface is not a port of the bridge that it should be of."},
	{AddressMissing, "an address is gone from its interface."},
	{AddressConflict, "two have the same address."},
	{NeighbourFailed, "an address cannot be resolved to hardware: ARP or neighbour discovery is off or unanswered."},
	{StaleNeighbour, "an entry of the neighbour table has a wrong hardware address."},
	{FDBWrong, "a bridge sends the hardware address out of the wrong port."},
	{NamespaceMissing, "a sandbox's network namespace is gone."},
	{PortBlocked, "a bridge's port is blocked or isolated."},
	{SysctlChanged, "a kernel parameter that Linkspan needs has been changed."},
	{Unknown, "something could not be read; it is said what."},
	{ProbeDisagrees, "what was read and what a real packet met differ; both are shown."},
}
