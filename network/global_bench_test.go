package network

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"linkspan/cnm"
)

// BenchmarkGlobalDelta: one endpoint elsewhere comes and goes, beside as many others.
func BenchmarkGlobalDelta(b *testing.B) {
	for _, many := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(many), func(b *testing.B) {
			a, mb, n := crowd(b, many)
			r := crowdOne(mb.id, many+1)
			k := a.Sink()
			for b.Loop() {
				k.Remote(context.Background(), n.ID, cnm.RemoteChange{Came: []cnm.Remote{r}})
				k.Remote(context.Background(), n.ID, cnm.RemoteChange{Gone: []string{r.ID}})
			}
		})
	}
}

// BenchmarkGlobalDeclared: all that is declared, as every repair asks for it.
func BenchmarkGlobalDeclared(b *testing.B) {
	a, _, _ := crowd(b, 10000)
	for b.Loop() {
		if _, err := a.Declared(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func crowdOne(host string, i int) cnm.Remote {
	addr := netip.AddrFrom4([4]byte{192, 168, byte(64 + i/200), byte(1 + i%200)})
	return cnm.Remote{ID: fmt.Sprintf("%064x", i), Host: host, ContainerName: fmt.Sprint("r", i), Addrs: []netip.Prefix{netip.PrefixFrom(addr, 16)}, MAC: cnm.MACFor(addr), Names: []string{fmt.Sprint("r", i)}}
}

// crowd is a host with one container, on a network with many elsewhere.
func crowd(b *testing.B, many int) (*world, *member, *cnm.Network) {
	b.Helper()
	x := newTruth()
	a, _ := x.enter(b)
	_, mb := x.enter(b)
	n := shop(b, a)
	x.settle()
	a.join(named("c1"))
	x.settle()
	var rs []cnm.Remote
	for i := range many {
		rs = append(rs, crowdOne(mb.id, i))
	}
	a.Sink().Remote(b.Context(), n.ID, cnm.RemoteChange{Came: rs})
	return a, mb, n
}
