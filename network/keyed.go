package network

import "sync"

// keyed is a set of mutexes by key; one that nobody waits for is forgotten.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*waited
}

type waited struct {
	sync.Mutex
	users int
}

// lock takes the key's mutex and returns what frees it.
func (k *keyed) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*waited{}
	}
	w := k.locks[key]
	if w == nil {
		w = &waited{}
		k.locks[key] = w
	}
	w.users++
	k.mu.Unlock()
	w.Lock()
	return func() {
		w.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if w.users--; w.users == 0 {
			delete(k.locks, key)
		}
	}
}
