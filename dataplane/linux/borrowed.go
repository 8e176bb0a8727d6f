package linux

import (
	"sync"

	"linkspan/dataplane"
)

// borrowed are links that are not ours and have something of ours, a route or a feature:
// what is heard of them is judged. When such a link goes down the kernel takes routes away
// without a word (fib_sync_down_dev).
type borrowed struct {
	mu    sync.Mutex
	links map[string]bool
}

func (o *borrowed) note(link string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.links == nil {
		o.links = map[string]bool{}
	}
	o.links[link] = true
}

func (o *borrowed) has(link string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.links[link]
}

// foreign is the link of a route that is not on one of ours; "" for others.
func (k *Kernel) foreign(o dataplane.Route) string {
	if o.NS != "" || o.Unreachable {
		return ""
	}
	if l, err := k.rt.linkByName(o.Link); err != nil || l == nil || l.group == k.group {
		return ""
	}
	return o.Link
}
