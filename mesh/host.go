package mesh

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/ipam"
	"linkspan/store"
)

// Host is what every host knows of every other.
type Host struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Number is small and this host's alone: its address inside of WireGuard is made of it.
	Number int `json:"number"`
	// Addr is the address that the others reach it by.
	Addr netip.Addr `json:"addr"`
	// Role is "member" for those that run the store, "client" for the others.
	Role string `json:"role,omitempty"`
	// Key is the WireGuard public key; empty: none published.
	Key string `json:"key,omitempty"`
	// MAC is that of its VTEP for routed packets; see VTEP.
	MAC string `json:"mac,omitempty"`
	// Prefixes are in use on this host alone, outside of the mesh's networks.
	Prefixes []Used    `json:"prefixes,omitempty"`
	Version  string    `json:"version,omitempty"`
	Joined   time.Time `json:"joined"`
	// Generation is the store's (Record) that this host's own records were last put
	// back into.
	Generation string `json:"generation,omitempty"`
}

// Used is a prefix that a host uses itself.
type Used struct {
	Prefix netip.Prefix `json:"prefix"`
	// What uses it, in words: "eth0", "network web".
	What string `json:"what"`
}

// VTEP is the hardware address of a host's end of routed tunnels: locally
// administered, and made of its id, so that it is the same after every restart.
func VTEP(id string) string {
	sum := sha256.Sum256([]byte("linkspan vtep " + id))
	m := net.HardwareAddr(sum[:6])
	m[0] = m[0]&^1 | 2
	return m.String()
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)

// Enroll claims a host's name and number and writes its record: it is what joining
// comes to. An empty id, MAC or time is made. The name, the address and the prefixes must
// be nobody else's. A host that is there already by the same id, name and address is
// returned as it is: asked twice is asked once.
func Enroll(ctx context.Context, st store.Store, h Host) (Host, error) {
	if !hostName.MatchString(h.Name) {
		return h, cnm.Invalid("%q cannot be a host's name: it has up to 63 letters, digits, dots, dashes and underscores; give one with --name", h.Name)
	}
	if !h.Addr.IsValid() || h.Addr.IsUnspecified() || h.Addr.IsLoopback() || h.Addr.IsMulticast() {
		return h, cnm.Invalid("host %s: %s is no address that other hosts could reach it by; give one with --listen", h.Name, h.Addr)
	}
	if h.ID == "" {
		h.ID = NewID()
	}
	if h.MAC == "" {
		h.MAC = VTEP(h.ID)
	}
	if h.Joined.IsZero() {
		h.Joined = time.Now().UTC().Truncate(time.Second)
	}
	for try := 0; ; try++ {
		out, err := enroll(ctx, st, h)
		if !errors.Is(err, store.ErrCompare) {
			return out, err
		}
		if err := pause(ctx, retry(try)); err != nil {
			return h, err
		}
	}
}

func enroll(ctx context.Context, st store.Store, h Host) (Host, error) {
	r, ok, err := ReadRecord(ctx, st)
	if err != nil {
		return h, err
	}
	if !ok {
		return h, cnm.NotFound("the store holds no mesh; make one with linkspan mesh init")
	}
	h.Generation = r.Generation
	space, _, err := st.Get(ctx, spaceKey)
	if err != nil {
		return h, err
	}
	hosts, _, err := st.List(ctx, hostKeys)
	if err != nil {
		return h, err
	}
	taken := map[int]bool{}
	for _, e := range hosts {
		other, ok := decode[Host](e.Value)
		if !ok {
			continue
		}
		taken[other.Number] = true
		switch {
		case other.ID == h.ID && other.Name == h.Name && other.Addr == h.Addr:
			return other, nil
		case other.ID == h.ID:
			return h, cnm.Conflict("host %s is in mesh %s already, by the id %s; forget it first with linkspan mesh forget %s", other.Name, r.Name, h.ID, other.Name)
		case strings.EqualFold(other.Name, h.Name):
			return h, cnm.Conflict("the name %s is taken in mesh %s by the host at %s, which joined on %s%s; join with --name ANOTHER, or, if that host is no more, linkspan mesh forget %s",
				h.Name, r.Name, other.Addr, other.Joined.Format(time.DateOnly), liveness(ctx, st, other.ID), other.Name)
		case other.Addr == h.Addr:
			return h, cnm.Conflict("the address %s is that of host %s in mesh %s%s; listen on another (--listen), or, if that host is no more, linkspan mesh forget %s",
				h.Addr, other.Name, r.Name, liveness(ctx, st, other.ID), other.Name)
		}
	}
	numbers, _, err := st.List(ctx, hostNumberKeys)
	if err != nil {
		return h, err
	}
	for _, e := range numbers {
		if n, err := strconv.Atoi(strings.TrimPrefix(e.Key, hostNumberKeys)); err == nil {
			taken[n] = true
		}
	}
	if h.Number == 0 || taken[h.Number] {
		for h.Number = 1; taken[h.Number]; {
			h.Number++
		}
	}
	networks, _, err := st.List(ctx, networkKeys)
	if err != nil {
		return h, err
	}
	if err := fits(h, networks); err != nil {
		return h, err
	}
	_, err = st.Commit(ctx,
		store.Op{Key: hostKeys + h.ID, Value: encode(h), Guard: true},
		store.Op{Key: hostNameKeys + strings.ToLower(h.Name), Value: []byte(h.ID), Guard: true},
		store.Op{Key: hostNumberKeys + strconv.Itoa(h.Number), Value: []byte(h.ID), Guard: true},
		store.Op{Key: spaceKey, Value: bump(space.Value), Guard: true, IfRev: space.Rev})
	return h, err
}

// fits holds a host's own prefixes against the networks that there are.
func fits(h Host, networks []store.Entry) error {
	var used ipam.Space
	for _, u := range h.Prefixes {
		if !ipam.DefaultRoute(u.Prefix) {
			used.Add(u.Prefix, u.What)
		}
	}
	for _, e := range networks {
		n, _ := decode[cnm.Network](e.Value)
		for _, p := range n.Pools {
			if with, what, ok := used.Overlap(p.Subnet); ok {
				return cnm.Conflict("subnet %s of network %s of the mesh overlaps %s, which host %s uses itself (%s): its containers could not tell the two apart; "+
					"remove the network (docker network rm %s) and make it with another --subnet, or renumber %s", p.Subnet, n.Name, with, h.Name, what, n.Name, what)
			}
		}
	}
	return nil
}

// liveness says, for an error, whether a host is there.
func liveness(ctx context.Context, st store.Store, id string) string {
	switch _, ok, err := st.Get(ctx, aliveKeys+id); {
	case err != nil:
		return ""
	case ok:
		return " and is there now"
	default:
		return " and is not there now"
	}
}

// sortHosts is by name, as people read them.
func sortHosts(hosts []Host) {
	slices.SortFunc(hosts, func(a, b Host) int { return strings.Compare(a.Name, b.Name) })
}
