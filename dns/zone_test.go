package dns

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
)

func (z *zone) lookup(name string) *entry {
	k, _ := key(name)
	return z.table.Load().get(maphash.String(z.seed, k), []byte(k))
}

// TestZoneModel: any order of changes leaves what was last said, whatever the size.
func TestZoneModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	z := newZone(maphash.MakeSeed())
	model := map[string]Record{}
	random := func() Record {
		id := rng.IntN(400)
		r := Record{Endpoint: fmt.Sprintf("%03d", id)}
		for range rng.IntN(4) {
			r.Names = append(r.Names, fmt.Sprintf("n%d", rng.IntN(300)))
		}
		for range rng.IntN(3) {
			r.Addrs = append(r.Addrs, netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(2)), byte(rng.IntN(256))}))
		}
		return r
	}
	for round := range 200 {
		switch rng.IntN(10) {
		case 0:
			var all []Record
			clear(model)
			for range rng.IntN(300) {
				r := random()
				if _, there := model[r.Endpoint]; !there {
					all = append(all, r)
					model[r.Endpoint] = r
				}
			}
			z.set(all, true)
		case 1, 2, 3:
			var gone []string
			for range rng.IntN(30) {
				id := fmt.Sprintf("%03d", rng.IntN(400))
				gone = append(gone, id)
				delete(model, id)
			}
			z.remove(gone)
		default:
			var put []Record
			for range rng.IntN(30) {
				r := random()
				put = append(put, r)
				model[r.Endpoint] = r
			}
			z.set(put, false)
		}
		keys, all := map[string]bool{}, z.all()
		for _, r := range all {
			if !same(r, model[r.Endpoint]) {
				t.Fatalf("round %d: %v, want %v", round, r, model[r.Endpoint])
			}
		}
		for i := range 300 {
			name := fmt.Sprintf("n%d", i)
			var want []netip.Addr
			known := false
			for _, r := range all {
				if slices.Contains(r.Names, name) {
					known = true
					want = append(want, r.Addrs...)
				}
			}
			e := z.lookup(name)
			if known != (e != nil) {
				t.Fatalf("round %d: %s is known: %v", round, name, e != nil)
			}
			if e == nil {
				continue
			}
			keys[name] = true
			a, _ := answers(want)
			if string(a) != string(e.a) {
				t.Fatalf("round %d: %s: %x, want %x", round, name, e.a, a)
			}
		}
		for _, r := range model {
			for _, a := range r.Addrs {
				keys[addrKey(a)] = true
			}
		}
		if len(model) != len(all) || z.keys != len(keys) {
			t.Fatalf("round %d: %d records, %d wanted; %d keys, %d wanted", round, len(all), len(model), z.keys, len(keys))
		}
	}
}

// TestZoneGrows: shards stay small, and go again.
func TestZoneGrows(t *testing.T) {
	z := newZone(maphash.MakeSeed())
	z.set(names(10_000), true)
	if n := len(z.table.Load().shards); z.keys != 40_000 || z.keys/n > perShard {
		t.Errorf("%d keys in %d shards", z.keys, n)
	}
	if e := z.lookup("NAME9999"); e == nil || len(e.a) != aLen || len(e.aaaa) != aaaaLen {
		t.Errorf("%+v", e)
	}
	for i, r := range names(10_000) {
		if i > 0 {
			z.remove([]string{r.Endpoint})
		}
	}
	if n := len(z.table.Load().shards); z.keys != 4 || n != 1 {
		t.Errorf("%d keys in %d shards", z.keys, n)
	}
}

// TestNeverWithout: who asks while a record changes finds either the old or the new.
func TestNeverWithout(t *testing.T) {
	z := newZone(maphash.MakeSeed())
	z.set(names(1000), true)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for i := range 1000 {
					if e := z.lookup(fmt.Sprint("name", i)); e == nil || len(e.a) != aLen {
						t.Errorf("name%d is gone: %v", i, e)
						return
					}
				}
			}
		})
	}
	for round := range 60 {
		r := names(1000)[round%1000]
		r.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{11, 0, byte(round >> 8), byte(round)})}
		z.set([]Record{r}, false)
		if round%50 == 0 {
			z.set(names(1000), true)
		}
		if round%20 == 0 { // grows and shrinks meanwhile
			z.set(moreNames(), false)
			var ids []string
			for _, r := range moreNames() {
				ids = append(ids, r.Endpoint)
			}
			z.remove(ids)
		}
	}
	close(stop)
	wg.Wait()
}

func moreNames() []Record {
	var list []Record
	for i := range 3000 {
		list = append(list, Record{Endpoint: fmt.Sprint("x", i), Names: []string{fmt.Sprint("other", i)}})
	}
	return list
}
