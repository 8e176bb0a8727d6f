// Package network is the controller of the model: it turns wishes into
// committed state, this host's desired kernel objects, and waits at the
// barrier until they are real.
package network

import (
	"context"
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/publish"
	"linkspan/store"
)

// Mode is a container's NetworkMode, decoded.
type Mode struct {
	// Network is the network's name or id ("bridge", "host", "none", …); empty
	// when Container is set.
	Network string
	// Container is the id or name whose sandbox is joined.
	Container string
}

// EndpointWish is what a container asks of one network.
type EndpointWish struct {
	Network    string // name or id
	IPv4, IPv6 netip.Addr
	LinkLocal  []netip.Addr
	MAC        string
	// Number is the interface's, declared by the definition and kept ("eth1"); each
	// endpoint of a request has its own.
	Number int
	// GwPriority, see cnm.Endpoint.
	GwPriority int
	// Names are what the container is known by on the network; see cnm.Endpoint.
	Names   []string
	Aliases []string
	// Links have no Addrs: the controller knows where the targets are.
	Links      []cnm.Link
	DriverOpts map[string]string
}

// NetworkWish is what `docker network create` asks for.
type NetworkWish struct {
	Name, Driver string
	// IPv4 and IPv6: nil means what the daemon's defaults say (true, false).
	IPv4, IPv6  *bool
	IPAMDriver  string
	IPAMOptions map[string]string
	// Pools with a zero Subnet, and families without a pool, are chosen.
	Pools                         []cnm.Pool
	Internal, Attachable, Ingress bool
	ConfigOnly                    bool
	ConfigFrom                    string
	Scope                         string
	Options, Labels               map[string]string
}

// InterfaceStats are the counters of one interface of a sandbox, as the
// container sees them.
type InterfaceStats struct {
	Name                                    string // "eth0"
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Request is a container's whole wish on the network.
type Request struct {
	ContainerID   string
	ContainerName string
	// Lineage, when not empty, names what the container is a version of: Compose
	// makes the next one of a service before it removes the last. Definitions of one
	// lineage hold their static addresses together; only who runs excludes others.
	Lineage string
	// Target is the full id of the container whose sandbox is joined
	// (--network container:X); everything below is then unused.
	Target    string
	Endpoints []EndpointWish
	Publish   []publish.Request
	Sysctls   map[string]string
	// DNS are the servers of --dns; empty: the host's.
	DNS []netip.Addr
	// Search are the search domains that the containers' resolv.conf has: names of
	// ours with one of them appended never leave the host.
	Search []string
	// Exposed are the ports that the container exposes ("80/tcp"), for SRV records.
	Exposed []string
	// With, if set, has Update write its caller's record of the definition in one
	// commit with the sandbox: one wait for the disk, and a crash leaves both as they
	// were or both as wished. It is asked just before that commit, and done told the
	// revision or the error just after; neither, when the sandbox stays as it is.
	With With `json:"-"`
}

// With gives one more op for a commit, and who is told what became of it.
type With func() (op store.Op, done func(rev int64, err error), err error)

// Service is what the rest of the engine asks of the controller.
type Service interface {
	// Check validates a request at create time without changing anything. It
	// returns warnings for the user ("published ports are discarded when using
	// host network mode").
	Check(ctx context.Context, r Request) (warnings []string, err error)
	// Join puts a container into its sandbox: makes it, or comes back into the
	// one that lives on. When it returns, the kernel has everything. Joining twice
	// is joining once.
	Join(ctx context.Context, r Request) (*cnm.Sandbox, error)
	// Leave takes the container out; the last one out releases the sandbox with
	// its addresses and ports. Leaving twice is success. keep says that the
	// container is about to come back (restart): the sandbox stays.
	Leave(ctx context.Context, containerID string, keep bool) error
	// Define holds what a definition owns whether the container runs or not: its
	// static addresses, from create until rm. It is called before the definition is
	// committed, with every version of it, and for each container when the daemon
	// starts; the last call counts. A taken address is cnm.ErrConflict and names the
	// holder, and nothing changes.
	Define(ctx context.Context, r Request) error
	// Undefine gives back what Define held (rm). Unknown is success.
	Undefine(containerID string)
	// Update brings the sandbox of a running container to a changed definition:
	// endpoints come and go (connect, disconnect), names, links and priorities
	// change. Ports stay as they are: they belong to the container. When it returns
	// the kernel has everything; on an error everything is as before, besides what
	// With's commit wrote of the caller's own. A container that is in no sandbox, or
	// in another's, has nothing to update.
	Update(ctx context.Context, r Request) error
	// Stats reads the counters of a container's interfaces.
	Stats(ctx context.Context, containerID string) ([]InterfaceStats, error)

	// CreateNetwork makes a network; the warning is for the user.
	CreateNetwork(ctx context.Context, w NetworkWish) (n *cnm.Network, warning string, err error)
	// RemoveNetwork removes one. Predefined: cnm.ErrForbidden; with endpoints:
	// cnm.ErrConflict, naming them.
	RemoveNetwork(ctx context.Context, ref string) error

	// Sandbox returns the sandbox a container is in, or ok false.
	Sandbox(containerID string) (s *cnm.Sandbox, ok bool)
	// Sandboxes returns all of them.
	Sandboxes() []*cnm.Sandbox
	// On returns those on a network, by its full id.
	On(networkID string) []*cnm.Sandbox

	// Networks returns all networks, by name.
	Networks() []*cnm.Network
	// Network finds one by name, id or unique id prefix.
	Network(ref string) (*cnm.Network, error)

	// Plan returns what Join would make, in order, and makes nothing.
	Plan(ctx context.Context, r Request) ([]dataplane.Object, error)
	// Reconcile compares the desired state of the whole host with the kernel and
	// puts the difference right; with dryRun it only returns it.
	Reconcile(ctx context.Context, dryRun bool) (*Report, error)
}

// Report is what a reconciliation found and did.
type Report struct {
	Ops []dataplane.Op
	// Drift are objects inside sandboxes that differ and are left alone.
	Drift []dataplane.Object
	// Failures are the ops that failed.
	Failures []error
}
