package host

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestAliveWords: of a host that is there, that is dead, and of which nobody tells,
// because the store is away.
func TestAliveWords(t *testing.T) {
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	other := HostStatus{Name: "host2", Addr: netip.MustParseAddr("10.0.0.2"), Role: RoleClient, Alive: true}
	dead := other
	dead.Alive, dead.Gone = false, ago(5*time.Minute)
	for want, s := range map[string]*Status{
		"yes":                 {Etcd: &Etcd{Reachable: true}, Hosts: []HostStatus{other}},
		"no, for 5 minutes":   {Etcd: &Etcd{Reachable: true}, Hosts: []HostStatus{dead}},
		"yes, 40 seconds ago": {Etcd: &Etcd{Since: ago(40 * time.Second)}, Hosts: []HostStatus{other}},
		"not known":           {Etcd: &Etcd{}, Hosts: []HostStatus{other}},
	} {
		s.Phase, s.Mesh = PhaseJoined, "m"
		var b strings.Builder
		if err := s.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		if row := b.String()[strings.Index(b.String(), "host2"):]; !strings.Contains(row, "client  "+want+"  ") {
			t.Errorf("%s: %s", want, b.String())
		}
	}
}
