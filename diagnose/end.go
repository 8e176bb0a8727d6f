package diagnose

import (
	"net/netip"

	"linkspan/cnm"
)

// EndKind says what an end of a question is.
type EndKind string

// The kinds of ends.
const (
	EndContainer EndKind = "container"
	EndHost      EndKind = "host"
	EndOutside   EndKind = "outside"
	EndName      EndKind = "name" // known to nobody here, or only elsewhere
	// EndElsewhere is a container on another host of the mesh.
	EndElsewhere EndKind = "elsewhere"
)

// End is what a person means by A or B.
type End struct {
	Kind EndKind `json:"kind"`
	// Text is what the person wrote.
	Text string `json:"text"`
	// Name is what it is called in sentences.
	Name string `json:"name"`
	// Addr is set when an address was given, or is what a name led to.
	Addr netip.Addr `json:"addr,omitzero"`
	// Port and Proto, when given.
	Port  uint16 `json:"port,omitempty"`
	Proto string `json:"proto,omitempty"`
	// How says how the text led here, when it was no container's name: "the address of
	// db on shop", "in web's /etc/hosts".
	How string `json:"how,omitempty"`

	Container *Container    `json:"container,omitempty"`
	Sandbox   *cnm.Sandbox  `json:"-"`
	Endpoint  *cnm.Endpoint `json:"-"` // whose address it is
	// Elsewhere is set for a container on another host.
	Elsewhere *Elsewhere `json:"elsewhere,omitempty"`
}
