package container

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/keeper"
)

func startKeeper(t *testing.T, dir string) keeper.Keeper {
	k := &pipeKeeper{dir: dir, s: map[string]*pipe{}}
	os.MkdirAll(dir, 0o700)
	return k
}

func onStdinClosed(k keeper.Keeper, f func(string)) { k.(*pipeKeeper).closed = f }

type pipeKeeper struct {
	keeper.Keeper
	dir    string
	mu     sync.Mutex
	s      map[string]*pipe
	closed func(string)
}

type pipe struct {
	spec    keeper.StreamSpec
	paths   keeper.Stream
	hold    []*os.File
	in      *os.File
	ended   chan struct{}
	mu      sync.Mutex
	clients []*pclient
	started bool
}
type pclient struct {
	f    *os.File
	o    keeper.AttachOptions
	told func(bool)
}

func (k *pipeKeeper) OpenStream(_ context.Context, s keeper.StreamSpec) (keeper.Stream, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.s[s.ID]; p != nil {
		select {
		case <-p.ended:
		default:
			return p.paths, nil
		}
	}
	p := &pipe{spec: s, ended: make(chan struct{})}
	d := filepath.Join(k.dir, s.ID[:12])
	os.MkdirAll(d, 0o700)
	var wg sync.WaitGroup
	open := func(name string, kind byte) string {
		f := filepath.Join(d, name)
		unix.Mkfifo(f, 0o600)
		rd, _ := os.OpenFile(f, os.O_RDONLY|unix.O_NONBLOCK, 0)
		wr, _ := os.OpenFile(f, os.O_WRONLY|unix.O_NONBLOCK, 0)
		p.hold = append(p.hold, wr)
		wg.Go(func() { k.pump(p, rd, name, kind) })
		return f
	}
	p.paths.Stdout = open("stdout", 1)
	if !s.TTY {
		p.paths.Stderr = open("stderr", 2)
	}
	if s.Stdin {
		f := filepath.Join(d, "stdin")
		unix.Mkfifo(f, 0o600)
		p.in, _ = os.OpenFile(f, os.O_RDWR|unix.O_NONBLOCK, 0)
		p.paths.Stdin = f
	}
	go func() {
		wg.Wait()
		p.mu.Lock()
		for _, c := range p.clients {
			unix.Shutdown(int(c.f.Fd()), unix.SHUT_WR)
			c.f.Close()
			go c.told(false)
		}
		p.mu.Unlock()
		close(p.ended)
	}()
	k.s[s.ID] = p
	return p.paths, nil
}

func (k *pipeKeeper) pump(p *pipe, r *os.File, name string, kind byte) {
	b := bufio.NewReader(r)
	var log *os.File
	if p.spec.LogPath != "" {
		log, _ = os.OpenFile(p.spec.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	for {
		buf := make([]byte, 16<<10)
		n, err := b.Read(buf)
		if n > 0 {
			p.mu.Lock()
			if log != nil {
				for _, l := range splitLines(string(buf[:n])) {
					j, _ := json.Marshal(map[string]any{"log": l, "stream": name, "time": time.Now().UTC()})
					log.Write(append(j, '\n'))
				}
			}
			for _, c := range p.clients {
				out := buf[:n]
				if c.o.Mux {
					h := make([]byte, 8, 8+n)
					h[0] = kind
					binary.BigEndian.PutUint32(h[4:], uint32(n))
					out = append(h, out...)
				}
				c.f.Write(out)
			}
			p.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

func splitLines(s string) (out []string) {
	for i := 0; i < len(s); {
		j := i
		for j < len(s) && s[j] != '\n' {
			j++
		}
		if j < len(s) {
			j++
		}
		out = append(out, s[i:j])
		i = j
	}
	return out
}

func (k *pipeKeeper) get(id string) *pipe { k.mu.Lock(); defer k.mu.Unlock(); return k.s[id] }

func (k *pipeKeeper) Started(_ context.Context, id string) error {
	if p := k.get(id); p != nil && !p.started {
		p.started = true
		for _, h := range p.hold {
			h.Close()
		}
	}
	return nil
}

func (k *pipeKeeper) Drain(ctx context.Context, id string) error {
	p := k.get(id)
	if p == nil {
		return nil
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (k *pipeKeeper) CloseStream(_ context.Context, id string) error {
	p := k.get(id)
	if p == nil {
		return nil
	}
	k.Started(nil, id)
	k.mu.Lock()
	delete(k.s, id)
	k.mu.Unlock()
	return os.RemoveAll(filepath.Join(k.dir, id[:12]))
}

func (k *pipeKeeper) Attach(_ context.Context, id string, o keeper.AttachOptions, client *os.File, ended func(bool)) error {
	p := k.get(id)
	fd, _ := unix.FcntlInt(client.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	c := &pclient{f: os.NewFile(uintptr(fd), "c"), o: o, told: ended}
	p.mu.Lock()
	p.clients = append(p.clients, c)
	p.mu.Unlock()
	if o.Stdin && p.in != nil {
		go func() {
			p.in.Write(o.Pending)
			buf := make([]byte, 4096)
			for {
				n, err := unix.Read(fd, buf)
				if err == unix.EAGAIN {
					time.Sleep(time.Millisecond)
					continue
				}
				if n <= 0 {
					break
				}
				p.in.Write(buf[:n])
			}
			p.in.Close()
			for !p.started {
				time.Sleep(time.Millisecond)
			}
			k.closed(id)
		}()
	}
	return nil
}

func (k *pipeKeeper) Streams(context.Context) (out []keeper.StreamInfo, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.s {
		e := false
		select {
		case <-p.ended:
			e = true
		default:
		}
		out = append(out, keeper.StreamInfo{StreamSpec: p.spec, Ended: e})
	}
	return out, nil
}
