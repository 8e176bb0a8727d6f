package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// stream is the stdio of one container or exec.
//
// Until Started the keeper holds the other end of each FIFO too: outputs have a
// writer, so that there is no EOF before the shim came, and stdin has a reader,
// so that a client can type ahead. From Started on the ends that remain are the
// shim's, and tell when it is gone.
type stream struct {
	spec    StreamSpec
	dir     string // holds the FIFOs
	stall   time.Duration
	chunks  *chunks
	logger  *slog.Logger
	onStdin func(id string) // stdin closed, and the shim is there

	ended chan struct{} // closed when every output came to its end
	pumps sync.WaitGroup

	mu      sync.Mutex // before attachment.mu
	outs    []*output
	stamps  stamps   // of the log's entries
	in      *stdin   // nil: none
	log     *logFile // nil: none, or ended
	lost    uint64   // bytes that did not get into the log, ever
	gap     uint64   // … since it was written last
	open    int      // outputs that have not ended
	started bool
	frozen  bool // an upgrade is on its way: goroutines leave, descriptors stay
	closing bool
	all     map[*attachment]struct{}
}

// output is stdout or stderr.
type output struct {
	kind  byte // as in stdcopy: 1 stdout, 2 stderr
	path  string
	r     *os.File
	hold  held // the write end, until Started
	split splitter
	done  bool
}

const (
	kindStdout = 1
	kindStderr = 2
)

func (o *output) name() string {
	if o.kind == kindStderr {
		return "stderr"
	}
	return "stdout"
}

// base makes a stream without its files.
func (e *environment) base(spec StreamSpec) *stream {
	return &stream{
		spec: spec, dir: e.streamDir(spec.ID), stall: e.stall, chunks: e.chunks,
		logger: e.logger.With("stream", spec.ID), onStdin: e.onStdin,
		ended: make(chan struct{}), all: map[*attachment]struct{}{},
	}
}

// environment is what streams need of the server.
type environment struct {
	dir     string
	stall   time.Duration
	chunks  *chunks
	logger  *slog.Logger
	onStdin func(id string)
}

func (e *environment) streamDir(id string) string { return filepath.Join(e.dir, "io", id) }

// openStream makes FIFOs and log, and starts reading.
func (e *environment) openStream(spec StreamSpec, fresh bool) (_ *stream, err error) {
	s := e.base(spec)
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	if spec.LogPath != "" {
		if s.log, err = openLog(spec.LogPath, spec.Log, s.logger, s.follow); err != nil {
			return nil, fmt.Errorf("stream %s: %w", spec.ID, err)
		}
	}
	if err = os.MkdirAll(s.dir, 0o700); err == nil {
		err = s.openFIFOs(fresh)
	}
	if err != nil {
		return nil, cnm.Errorf(classOf(err), "stream %s: its FIFOs cannot be made: %w", spec.ID, err)
	}
	s.run()
	return s, nil
}

func (s *stream) openFIFOs(fresh bool) error {
	kinds := []byte{kindStdout, kindStderr}
	if s.spec.TTY {
		kinds = kinds[:1]
	}
	for _, kind := range kinds {
		o := &output{kind: kind, hold: nothing}
		o.path = filepath.Join(s.dir, o.name())
		o.split = splitter{source: o.name(), attrs: attrsJSON(s.spec.Log.Attrs), tick: s.stamps.next}
		if err := makeFIFO(o.path, fresh); err != nil {
			return err
		}
		r, err := openFIFO(o.path, unix.O_RDONLY)
		if err != nil {
			return err
		}
		o.r = os.NewFile(uintptr(r), o.path)
		s.outs = append(s.outs, o)
		_, _ = unix.FcntlInt(uintptr(r), unix.F_SETPIPE_SZ, fifoSize)
		w, err := openFIFO(o.path, unix.O_WRONLY)
		if err != nil {
			return err
		}
		o.hold = held(w)
	}
	if !s.spec.Stdin {
		return nil
	}
	s.in = &stdin{path: filepath.Join(s.dir, "stdin"), hold: nothing}
	if err := makeFIFO(s.in.path, fresh); err != nil {
		return err
	}
	return s.in.open()
}

// abandon closes what a failed open has opened.
func (s *stream) abandon() {
	for _, o := range s.outs {
		o.hold.release()
		o.r.Close()
	}
	if s.in != nil {
		s.in.close()
		s.in.hold.release()
	}
	if s.log != nil {
		s.log.close()
	}
}

// run starts one reader for each output that has not ended. All are counted before
// the first begins: it may end at once.
func (s *stream) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var live []*output
	for _, o := range s.outs {
		if !o.done {
			live = append(live, o)
		}
	}
	s.open = len(live)
	for _, o := range live {
		s.pumps.Go(func() { s.pump(o) })
	}
}

// setLog changes the log's options of a stream that goes on.
func (s *stream) setLog(o LogOptions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reflect.DeepEqual(s.spec.Log, o) {
		return
	}
	s.spec.Log = o
	for _, out := range s.outs {
		out.split.attrs = attrsJSON(o.Attrs)
	}
	if s.log != nil {
		s.log.set(o)
	}
}

// follow tells those who are being replayed the log that it goes on in a new file.
// The lock is held.
func (s *stream) follow() {
	for a := range s.all {
		if a.replay != nil {
			a.replay.add(s.spec.LogPath)
		}
	}
}

func (s *stream) paths() Stream {
	p := Stream{Stdout: filepath.Join(s.dir, "stdout")}
	if !s.spec.TTY {
		p.Stderr = filepath.Join(s.dir, "stderr")
	}
	if s.spec.Stdin {
		p.Stdin = filepath.Join(s.dir, "stdin")
	}
	return p
}

// begin is Started: the shim has its ends open.
func (s *stream) begin() {
	s.mu.Lock()
	first := !s.started
	s.started = true
	for _, o := range s.outs {
		o.hold.release()
	}
	tell := first && s.in != nil && s.in.releaseHold()
	s.mu.Unlock()
	if tell {
		s.onStdin(s.spec.ID)
	}
}

// closeStdin ends the process's input. The shim is told by the daemon.
func (s *stream) closeStdin() {
	s.mu.Lock()
	tell := s.in != nil && s.in.close() && s.started
	s.mu.Unlock()
	if tell {
		s.onStdin(s.spec.ID)
	}
}

func (s *stream) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// finish is called with the lock held when the last output came to its end.
func (s *stream) finish() {
	for a := range s.all {
		if a.live {
			a.finish()
		}
	}
	if s.in != nil {
		s.in.close()
		s.in.hold.release()
	}
	if s.log != nil {
		if err := s.log.close(); err != nil {
			s.logger.Error("container log did not close well", "path", s.log.path, "err", err)
		}
		s.log = nil
	}
	close(s.ended)
}

// drain waits for the end, and until the clients have everything.
func (s *stream) drain(ctx context.Context) error {
	select {
	case <-s.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.mu.Lock()
	clients := slices.Collect(maps.Keys(s.all))
	s.mu.Unlock()
	for _, a := range clients {
		select {
		case <-a.flushed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// close takes what is still in the FIFOs, ends the clients, and with remove
// takes the FIFOs away. Without it a later keeper finds them.
func (s *stream) close(remove bool) error {
	s.mu.Lock()
	s.closing = true
	for _, o := range s.outs {
		o.hold.release()
		if !o.done {
			_ = o.r.SetReadDeadline(past())
		}
	}
	for a := range s.all {
		a.unblock()
	}
	s.mu.Unlock()
	s.pumps.Wait()
	if !remove {
		return nil
	}
	if err := os.RemoveAll(s.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return cnm.Errorf(classOf(err), "stream %s: its FIFOs cannot be removed: %w", s.spec.ID, err)
	}
	return nil
}

func (s *stream) info() StreamInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return StreamInfo{
		StreamSpec: s.spec, Started: s.started, Ended: s.hasEnded(), Attached: len(s.all),
		StdinClosed: s.in != nil && s.in.isClosed(), LogLost: s.lost,
	}
}

// past is a deadline that has passed: it wakes whoever waits on a descriptor.
func past() time.Time { return time.Unix(1, 0) }
