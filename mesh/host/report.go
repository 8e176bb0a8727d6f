package host

import (
	"net/netip"
	"time"

	"linkspan/cnm"
)

// Phase is where this host is in a mesh's life.
type Phase string

// The phases.
const (
	PhaseNone      Phase = "none"      // in no mesh
	PhaseInit      Phase = "making"    // it makes one, and is not through
	PhaseJoining   Phase = "joining"   // it has its certificate, and is not known to the others
	PhaseJoined    Phase = "joined"    // it is in one
	PhaseForgotten Phase = "forgotten" // the others have forgotten it; it keeps apart
	PhaseLeaving   Phase = "leaving"   // it is about to leave
)

// Role is what a host does for the mesh.
type Role string

// The roles.
const (
	RoleMember   Role = "member"   // runs etcd
	RoleClient   Role = "client"   // asks those who do
	RoleExternal Role = "external" // etcd is not the mesh's own
)

// Joined is the answer of Init, Join and Restore.
type Joined struct {
	Mesh string    `json:"mesh"` // its id
	Name string    `json:"name"` // this host's
	Addr string    `json:"address"`
	Role Role      `json:"role"`
	Join *JoinLine `json:"join,omitempty"`
	// Notes are for the person: what else happens, or is to be done.
	Notes []string `json:"notes,omitempty"`
}

// JoinLine is what a person types at another host.
type JoinLine struct {
	Gate    string    `json:"gate"`
	Token   string    `json:"token"`
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
	Command string    `json:"command"`
}

// Token is one join token, without its secret.
type Token struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires"`
	// State is "good", "used", "revoked" or "expired".
	State string `json:"state"`
	// By is the host on which it was made; UsedBy is the name of the host that it let in.
	By     string    `json:"by,omitempty"`
	UsedBy string    `json:"used_by,omitempty"`
	Used   time.Time `json:"used,omitzero"`
}

// Tokens are all there are.
type Tokens struct {
	Tokens []Token `json:"tokens"`
}

// Done is the answer of what has nothing else to say.
type Done struct {
	// Did is a sentence; Notes are for the person.
	Did   string   `json:"did"`
	Notes []string `json:"notes,omitempty"`
}

// Status is the mesh as this host sees it.
type Status struct {
	Phase Phase `json:"phase"`
	// Mesh is its id and Name what it is called; empty in PhaseNone.
	Mesh string `json:"mesh,omitempty"`
	Self *Self  `json:"self,omitempty"`
	// Words are sentences about what is not as it should be, worst first, each with
	// what still works and what to do.
	Words []string `json:"words,omitempty"`
	Etcd  *Etcd    `json:"etcd,omitempty"`
	// Hosts are all there are, by name; this one is among them.
	Hosts []HostStatus `json:"hosts,omitempty"`
	// Certificate is this host's.
	Certificate *Certificate `json:"certificate,omitempty"`
}

// Self is this host.
type Self struct {
	ID   string     `json:"id"`
	Name string     `json:"name"`
	Addr netip.Addr `json:"address"`
	Role Role       `json:"role"`
	Dev  string     `json:"device,omitempty"`
	MTU  int        `json:"mtu,omitempty"`
	// Queue is how many changes wait to be written for the others.
	Queue int `json:"queue"`
	// Encryption is how WireGuard runs here: "kernel", "user space", or why it does not.
	Encryption string `json:"encryption,omitempty"`
}

// Etcd is the health of the common store.
type Etcd struct {
	// Kind is "embedded" (members of this mesh) or "external".
	Kind string `json:"kind"`
	// Reachable says that this host reads and writes; Since is when that last changed, if
	// that is known, and Error why not.
	Reachable bool      `json:"reachable"`
	Since     time.Time `json:"since,omitzero"`
	Error     string    `json:"error,omitempty"`
	// Members are those that were asked. Voters and Answering count those that vote.
	Members   []Member `json:"members"`
	Voters    int      `json:"voters"`
	Answering int      `json:"answering"`
}

// Member is one etcd server.
type Member struct {
	Name     string `json:"name,omitempty"`
	Endpoint string `json:"endpoint"`
	// State is "leader", "follower", "learner" or "away".
	State   string `json:"state"`
	Version string `json:"version,omitempty"`
	DBSize  int64  `json:"db_size,omitempty"` // bytes
	Quota   int64  `json:"quota,omitempty"`   // bytes
	// Alarm is "NOSPACE" or "CORRUPT" when etcd says so.
	Alarm string `json:"alarm,omitempty"`
	Error string `json:"error,omitempty"`
}

// HostStatus is one host.
type HostStatus struct {
	ID    string     `json:"id"`
	Name  string     `json:"name"`
	Addr  netip.Addr `json:"address"`
	Role  Role       `json:"role"`
	Alive bool       `json:"alive"`
	// Gone is since when its sign of life is missing, where this host knows.
	Gone    time.Time `json:"gone,omitzero"`
	Self    bool      `json:"self,omitempty"`
	Version string    `json:"version,omitempty"`
	// Paths are the ways that packets take to it.
	Paths []PathStatus `json:"paths,omitempty"`
}

// PathStatus is one way to a host.
type PathStatus struct {
	// For are the networks that take it: "overlay", "routed", "encrypted".
	For []string `json:"for,omitempty"`
	cnm.Path
	// RTT, Loss and PathMTU are measured; nil and 0: they were not, or nothing came
	// back.
	RTT     *time.Duration `json:"rtt,omitempty"`  // nanoseconds
	Loss    *float64       `json:"loss,omitempty"` // 0 to 1
	PathMTU int            `json:"path_mtu,omitempty"`
	// Measured is when.
	Measured time.Time `json:"measured,omitzero"`
	Error    string    `json:"error,omitempty"`
}

// Certificate is about this host's own.
type Certificate struct {
	NotAfter time.Time `json:"not_after"`
	// Renews is when its renewal begins.
	Renews time.Time `json:"renews"`
	// Error is why the last try to renew it failed.
	Error string `json:"error,omitempty"`
}

// Checked is what `linkspan mesh check` found.
type Checked struct {
	Pairs []Pair `json:"pairs"`
	// Words are findings with what to do.
	Words []string `json:"words,omitempty"`
}

// Pair is the way between two hosts, one kind of path.
type Pair struct {
	From string       `json:"from"`
	To   string       `json:"to"`
	Kind cnm.PathKind `json:"kind"`
	// RTTNanos is the median round trip, in nanoseconds; 0: nothing came back.
	RTTNanos time.Duration `json:"rtt,omitempty"`
	Loss     float64       `json:"loss"`
	// TCP is the rate of a transfer, in bytes a second; Spoilt: checksums arrive broken.
	TCP    float64 `json:"tcp,omitempty"`
	Spoilt bool    `json:"spoilt,omitempty"`
	// MTU is the largest packet that came through, Expected what should.
	MTU      int `json:"mtu,omitempty"`
	Expected int `json:"expected,omitempty"`
	// Findings are sentences; none: it is well.
	Findings []string `json:"findings,omitempty"`
	Error    string   `json:"error,omitempty"`
}
