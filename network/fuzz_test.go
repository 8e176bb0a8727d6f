package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"linkspan/cnm"
	"linkspan/internal/lab"
)

// FuzzCreate: whatever is wished, a network is made whole or refused with a class,
// no two share an address, and all can be removed again.
func FuzzCreate(f *testing.F) {
	for _, s := range []string{
		`[{"Name":"a"},{"Name":"b","IPv6":true},{"Name":"a"}]`,
		`[{"Name":"a","Pools":[{"subnet":"10.0.0.0/24","gateway":"10.0.0.1","range":"10.0.0.128/25","aux":{"x":"10.0.0.9"}}]},{"Name":"b","Pools":[{"subnet":"10.0.0.0/8"}]}]`,
		`[{"Name":"a","IPv4":false,"IPv6":true,"Pools":[{"subnet":"fd00::/64"},{"subnet":"10.0.0.0/24"}]}]`,
		`[{"Name":"c","ConfigOnly":true,"Pools":[{"subnet":"172.30.0.0/16"}]},{"Name":"d","ConfigFrom":"c"},{"Name":"e","ConfigFrom":"c"}]`,
		`[{"Name":"x","Driver":"nul"},{"Name":"y","Options":{"com.docker.network.bridge.name":"y0"}},{"Name":"z","Options":{"com.docker.network.bridge.name":"y0"}}]`,
		`[{"Name":"t","Pools":[{"subnet":"10.0.0.0/31"},{"subnet":"fd00::/127"}]},{"Name":"u","Pools":[{"subnet":"10.0.0.4/32"}]},{"Name":"v","Pools":[{"subnet":"0.0.0.0/0"}]}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var wishes []NetworkWish
		if json.Unmarshal(b, &wishes) != nil || len(wishes) > 20 {
			return
		}
		w := newWorld(t)
		before := w.everything()
		var made []*cnm.Network
		for _, wish := range wishes {
			n, _, err := w.CreateNetwork(t.Context(), wish)
			if err != nil {
				known := false
				for _, class := range []error{cnm.ErrInvalid, cnm.ErrConflict, cnm.ErrForbidden, cnm.ErrNotFound, cnm.ErrUnsupported, cnm.ErrExhausted} {
					known = known || errors.Is(err, class)
				}
				if !known {
					t.Errorf("%+v: %v is of no class", wish, err)
				}
				continue
			}
			for _, other := range made {
				for _, p := range n.Pools {
					for _, q := range other.Pools {
						if !n.ConfigOnly && !other.ConfigOnly && p.Subnet.Overlaps(q.Subnet) {
							t.Errorf("%s and %s share %s, %s", n.Name, other.Name, p.Subnet, q.Subnet)
						}
					}
				}
			}
			made = append(made, n)
			if !n.ConfigOnly {
				id := fmt.Sprint("c", len(made))
				if s, err := w.Join(t.Context(), on(id, n.ID)); err == nil {
					for _, a := range s.Endpoints[0].Addrs {
						for _, p := range n.Pools {
							if a.Addr() == p.Gateway {
								t.Errorf("%s has the gateway's address", id)
							}
						}
					}
					w.leave(id, false)
				} else if !errors.Is(err, cnm.ErrExhausted) {
					t.Errorf("nobody can join %+v: %v", n, err)
				}
			}
		}
		for i := len(made) - 1; i >= 0; i-- {
			w.remove(made[i].ID)
		}
		if d := lab.Differ(before, w.everything()); d != "" {
			t.Errorf("not as before:\n%s", d)
		}
	})
}
