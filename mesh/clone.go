package mesh

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"linkspan/store"
)

// life is what the liveness key says: who it is that lives. Of a host there is one
// process at a time (its data root is locked), so that a key which another process takes
// away from a living one says that two machines have the same identity: a clone of a
// virtual machine, a restored disk beside the one that was thought dead. A restart is
// none: the process before it is no more, and takes nothing back.
type life struct {
	Name string `json:"name"`
	// Boot is one process's, Machine and From what people know it by.
	Boot    string `json:"boot,omitempty"`
	Machine string `json:"machine,omitempty"`
	From    string `json:"from,omitempty"`
	// First is the store's revision when this process first held the key: which of two was
	// earlier, whatever their clocks say. 0: with this entry.
	First int64 `json:"first,omitempty"`
}

func (m *Mesh) ownLife() life {
	m.mu.Lock()
	l := life{Name: m.self.Name, Boot: m.boot, First: m.first}
	m.mu.Unlock()
	l.Machine, _ = os.Hostname()
	if m.cfg.From != nil {
		l.From = m.cfg.From()
	}
	return l
}

func (l life) where() string {
	var words []string
	if l.Machine != "" {
		words = append(words, l.Machine)
	}
	if l.From != "" {
		words = append(words, "at "+l.From)
	}
	if len(words) == 0 {
		return "not known"
	}
	return strings.Join(words, " ")
}

// taken looks who has the liveness key. later says that it is a process which began
// after this one.
func (m *Mesh) taken(ctx context.Context) (other life, another, later bool, err error) {
	e, ok, err := m.get(ctx, aliveKeys+m.id)
	if err != nil || !ok {
		return other, false, false, err
	}
	other, ok = decode[life](e.Value)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !ok || other.Boot == "" {
		return other, false, false, nil
	}
	if other.Boot == m.boot {
		if m.first == 0 {
			m.first = e.Rev
		}
		return other, false, false, nil
	}
	since := other.First
	if since == 0 {
		since = e.Rev
	}
	return other, true, m.first != 0 && m.first < since, nil
}

// begun has taken note the revision at which this run's key came, once; of a try that
// fails, another one tells.
func (m *Mesh) begun(ctx context.Context) {
	m.mu.Lock()
	known := m.first != 0
	m.mu.Unlock()
	if !known {
		m.taken(ctx)
	}
}

// Copied begins Status.Fenced of a host that was put out of the mesh as a copy of another.
const Copied = "another machine has this host's identity"

// cloned acts on a liveness key that was taken from this process: the later of the two
// goes out of the mesh, before both hand out the same addresses.
func (m *Mesh) cloned(ctx context.Context) error {
	other, another, later, err := m.taken(ctx)
	if err != nil || !another {
		return err
	}
	own := m.ownLife()
	if !later {
		m.fence(fmt.Sprintf(Copied+" (%s; this one is %s) and was in the mesh before it: one is a copy of the other. "+
			"To be a host of its own, this one gives the copied identity up: linkspan mesh leave --force, then linkspan mesh join HOST:2380 --token TOKEN --name ANOTHER", other.where(), own.where()))
		return nil
	}
	m.mu.Lock()
	said := m.clone == other.Boot
	m.clone = other.Boot
	m.auditAll = true // it may have undone what is ours
	m.mu.Unlock()
	m.checkBell.ring()
	if !said {
		m.log.Error("another machine has this host's identity: it is a copy of this one, and is put out of the mesh", "this", own.where(), "copy", other.where(),
			"cure", "on the copy: linkspan mesh leave --force, then linkspan mesh join with a token and a --name of its own")
	}
	return nil
}

// hold returns when the key is lost, could not be had, or is not to be held any more.
func (m *Mesh) hold(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lost, err := m.cfg.Store.Hold(ctx, store.Op{Key: aliveKeys + m.id, Value: encode(m.ownLife())}, m.cfg.TTL)
	if m.heard(ctx, err, 0) != nil {
		return err
	}
	look := time.NewTicker(m.cfg.TTL)
	defer look.Stop()
	m.begun(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-lost:
			if err := m.cloned(ctx); err != nil {
				return err
			}
			return errLost
		case <-look.C:
			m.begun(ctx)
		case <-m.aliveBell:
			m.mu.Lock()
			out := m.member() != nil
			m.mu.Unlock()
			if out {
				return nil
			}
		}
	}
}
