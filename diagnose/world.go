// Package diagnose is what is common to those who explain: the world as it is declared
// and as the kernel has it, and the finding of what a person means by a word. The
// explanations are in the folders below: why, explain, flows, doctor. All of them read
// through interfaces that cannot change anything.
package diagnose

import (
	"context"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
)

// World is all that an explanation may look at.
type World struct {
	Declared Declared
	Kernel   reading.Reader
	// Mesh is nil where it does not matter.
	Mesh Mesh
	// Table is the name of our nftables table, family inet.
	Table string
}

// Declared is what the engine has promised. What it returns is not to be changed.
type Declared interface {
	// Networks by name.
	Networks() []*cnm.Network
	// Sandboxes are those that live.
	Sandboxes() []*cnm.Sandbox
	// Containers are all, running or not.
	Containers() []Container
	// Objects are all kernel objects that should be on this host, with owner and reason.
	Objects(ctx context.Context) ([]dataplane.Object, error)
}

// Container is what explanations need to know of one.
type Container struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Image string `json:"image,omitempty"`
	// State is Docker's: "created", "running", "paused", "restarting", "exited", "dead".
	State    string `json:"state"`
	ExitCode int    `json:"exit_code,omitempty"`
	Health   string `json:"health,omitempty"` // "healthy", "unhealthy", "starting"; "" without a check
	// PID is the first process's in the daemon's PID namespace; 0 when it does not run.
	PID int `json:"pid,omitempty"`
	// Mode is its network mode, as Docker writes it: "bridge", "host", "container:ID", …
	Mode string `json:"mode"`
	// Networks are the names of those that its definition names, running or not.
	Networks []string `json:"networks,omitempty"`
	// Exposed are the ports that image and definition expose ("80/tcp").
	Exposed []string `json:"exposed,omitempty"`
	// Published are the ports that its definition publishes, running or not; a HostPort
	// of 0 is chosen at the start.
	Published []cnm.PublishedPort `json:"published,omitempty"`
}
