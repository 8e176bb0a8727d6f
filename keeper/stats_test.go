package keeper

import (
	"testing"

	"linkspan/dns"
)

// TestResolvers: what was asked in the sandboxes is counted, and told over the socket.
func TestResolvers(t *testing.T) {
	k := newKeeper(t)
	s := newSandbox(t, "counted")
	k.must(k.SetNames(ctxT(t), "z", []dns.Record{record("e1", "172.20.0.2", "web")}, true))
	s.handOver(t, k, dns.View{Zones: []string{"z"}, Closed: true})
	s.knows(t, "web", "172.20.0.2")
	m, err := k.Resolvers(ctxT(t))
	if err != nil {
		t.Fatal(err)
	}
	if m.Queries < 2 || m.TCP == 0 || m.TCP >= m.Queries || m.Local == 0 || m.Forwarded != 0 || m.Views != 1 || m.Zones != 1 || m.Names == 0 {
		t.Errorf("%+v", m)
	}
}
