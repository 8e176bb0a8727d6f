package linux

import (
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
)

// Parameters raise no notification when they change, so they are read again and
// again, from files that stay open: opened inside, a file below /proc/sys/net goes on
// to mean that namespace. One reading takes a microsecond.
const (
	pollEvery = 40 * time.Millisecond
	// pollAtOnce bounds what one round costs. With more parameters than that (each
	// bridge has one) a change is seen some rounds later.
	pollAtOnce = 200
)

// parameters are the host's, as they should be.
type parameters struct {
	mu   sync.Mutex
	want map[string]string
}

// Expect says which parameters of the host the watch shall see to, besides those that
// operations set from now on.
func (k *Kernel) Expect(all []dataplane.Sysctl) {
	k.params.mu.Lock()
	defer k.params.mu.Unlock()
	k.params.want = map[string]string{}
	for _, o := range all {
		if o.NS == "" {
			k.params.want[o.Name] = words(o.Value)
		}
	}
}

func (k *Kernel) expect(o dataplane.Sysctl) {
	if o.NS != "" {
		return
	}
	k.params.mu.Lock()
	defer k.params.mu.Unlock()
	if k.params.want == nil {
		k.params.want = map[string]string{}
	}
	k.params.want[o.Name] = words(o.Value)
}

// poller reads them.
type poller struct {
	k     *Kernel
	tell  func(dataplane.Touch)
	files map[string]*polled
	next  int
	buf   [256]byte
}

type polled struct {
	fd   int
	told string // the last wrong value that was told
}

func (p *poller) open() error {
	p.files = map[string]*polled{}
	return nil
}

func (p *poller) run(ended <-chan struct{}) {
	defer p.close()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			p.round()
		}
	}
}

func (p *poller) close() {
	for _, f := range p.files {
		unix.Close(f.fd)
	}
}

func (p *poller) round() {
	p.k.params.mu.Lock()
	want := make(map[string]string, len(p.k.params.want))
	for n, v := range p.k.params.want {
		want[n] = v
	}
	p.k.params.mu.Unlock()
	for name, f := range p.files {
		if _, ok := want[name]; !ok {
			unix.Close(f.fd)
			delete(p.files, name)
		}
	}
	names := make([]string, 0, len(want))
	for n := range want {
		names = append(names, n)
	}
	if len(names) > pollAtOnce {
		slices.Sort(names)
		p.next %= len(names)
		part := append(slices.Clone(names[p.next:]), names[:p.next]...)[:pollAtOnce]
		p.next += pollAtOnce
		names = part
	}
	p.openAll(names)
	t := dataplane.Touch{}
	for _, name := range names {
		f := p.files[name]
		if f == nil {
			continue
		}
		have, ok := p.read(f)
		switch {
		case !ok: // its link went, and the file with it
			unix.Close(f.fd)
			delete(p.files, name)
		case have == want[name]:
			f.told = ""
		case have != f.told:
			f.told = have
			t.Add(dataplane.Touch{Sysctls: map[string]bool{name: true}})
		}
	}
	p.tell(t)
}

// openAll opens what is not open yet, inside, in one visit.
func (p *poller) openAll(names []string) {
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return p.files[n] != nil })
	if len(names) == 0 {
		return
	}
	_ = p.k.inHost(func() error {
		for _, n := range names {
			path, err := sysctlPath(n)
			if err != nil {
				continue
			}
			fd, err := unix.Open(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
			switch {
			case err == nil:
				p.files[n] = &polled{fd: fd}
			case errors.Is(err, unix.ENOENT): // until an operation sets it on the next link of that name
				p.k.params.mu.Lock()
				delete(p.k.params.want, n)
				p.k.params.mu.Unlock()
			}
		}
		return nil
	})
}

func (p *poller) read(f *polled) (string, bool) {
	n, err := unix.Pread(f.fd, p.buf[:], 0)
	if err != nil {
		return "", false
	}
	return words(string(p.buf[:n])), true
}
