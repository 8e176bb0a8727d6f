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
	MAC        string
	Aliases    []string
	DriverOpts map[string]string
}

// Request is a container's whole wish on the network.
type Request struct {
	ContainerID   string
	ContainerName string
	// Target is the full id of the container whose sandbox is joined
	// (--network container:X); everything below is then unused.
	Target    string
	Endpoints []EndpointWish
	Publish   []publish.Request
	Sysctls   map[string]string
}

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
	// Sandbox returns the sandbox a container is in, or ok false.
	Sandbox(containerID string) (s *cnm.Sandbox, ok bool)
	// Sandboxes returns all of them.
	Sandboxes() []*cnm.Sandbox

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
