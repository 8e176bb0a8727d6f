package host

import "time"

// InitRequest is `linkspan mesh init`.
type InitRequest struct {
	// Listen is this host's own address on the wire that the hosts share; a person's
	// word, checked here.
	Listen string `json:"listen"`
	// Name is this host's in the mesh; empty: the host name.
	Name string `json:"name,omitempty"`
	// Voters is how many hosts shall run etcd, as soon as there are so many: 1, 3 or 5;
	// 0: 3.
	Voters int `json:"voters,omitempty"`
	// TTL is how long the join token holds; 0: a day.
	TTL time.Duration `json:"ttl,omitempty"`
}

// JoinRequest is `linkspan mesh join`.
type JoinRequest struct {
	// Gate is a host of the mesh, ADDRESS[:PORT].
	Gate  string `json:"gate"`
	Token string `json:"token"`
	// Listen as in InitRequest; empty: the source address of the route to the gate.
	Listen string `json:"listen,omitempty"`
	Name   string `json:"name,omitempty"`
}

// RestoreRequest is `linkspan mesh restore`, besides the file.
type RestoreRequest struct {
	Listen string `json:"listen,omitempty"`
	Name   string `json:"name,omitempty"`
}
