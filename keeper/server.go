package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// Config is what a keeper process is started with.
type Config struct {
	// Socket is where the daemon finds it; Dir holds the FIFOs (io/), the lock and
	// the log of the keeper. Name is the instance, for log lines.
	Socket, Dir, Name string
	// Version is the binary's, for Info.
	Version string
	// Logger; nil: none.
	Logger *slog.Logger
	// Stall is how long an attached client may take nothing before it is dropped;
	// 0: 5 minutes.
	Stall time.Duration
	// IdleExit, when not 0: leave after so long with no daemon, no stream, no
	// port, no resolver and no tunnel. Nothing depends on such a keeper, and the next daemon starts another.
	IdleExit time.Duration
	// Ready is called once the socket accepts.
	Ready func()
	// State is what a former process of this keeper left for this one (Upgrade);
	// nil: start empty.
	State *os.File
	// Exec replaces this process by another binary and does not return on
	// success; nil: Upgrade is refused. state stays open across it.
	Exec func(exe string, state *os.File) error
}

// ErrRunning: another keeper serves this folder or socket.
var ErrRunning = errors.New("another keeper is running")

// server is a running keeper.
type server struct {
	cfg   Config
	env   *environment
	ports *portTable
	// resolvers is another after an upgrade that failed.
	resolvers *resolvers
	tunnels   *tunnels
	began     time.Time
	lock      *os.File
	l         *net.UnixListener
	opening   sync.Mutex // one OpenStream or CloseStream at a time
	swap      sync.Mutex // held by an upgrade until this process serves again
	serving   sync.WaitGroup
	stopped   chan stopReason

	mu       sync.Mutex
	streams  map[string]*stream
	retired  map[*stream]struct{} // ended and replaced, with clients that still read
	controls map[*control]struct{}
	frozen   bool
}

// stopReason says how to leave.
type stopReason int

const (
	stopKeep   stopReason = iota // the FIFOs stay for a later keeper
	stopRemove                   // Shutdown: everything goes
)

// Serve is the keeper. It returns when ctx ends, on Shutdown, or when idle.
// Ended by ctx it leaves the FIFOs of running containers in place: their shims
// have them open, and a later keeper goes on with them.
func Serve(ctx context.Context, cfg Config) error {
	s := newServer(cfg)
	var err error
	if cfg.State != nil {
		err = s.resume(cfg.State)
	} else {
		err = s.listen(ctx)
	}
	if err != nil {
		return err
	}
	s.run()
	if cfg.Ready != nil {
		cfg.Ready()
	}
	if cfg.IdleExit > 0 {
		go s.leaveWhenIdle(ctx)
	}
	s.env.logger.Info("keeper serves", "socket", cfg.Socket, "version", cfg.Version, "pid", os.Getpid())
	reason := stopKeep
	select {
	case <-ctx.Done():
	case reason = <-s.stopped:
	}
	s.stop(reason)
	return nil
}

func newServer(cfg Config) *server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &server{
		cfg: cfg, began: time.Now(), stopped: make(chan stopReason, 1),
		streams: map[string]*stream{}, retired: map[*stream]struct{}{}, controls: map[*control]struct{}{},
	}
	logger := cfg.Logger.With("keeper", cfg.Name)
	s.env = &environment{
		dir: cfg.Dir, stall: cmp.Or(cfg.Stall, defaultStall), chunks: newChunks(), logger: logger,
		onStdin: func(id string) { s.broadcast(eventStdinClosed, idBody{id}) },
	}
	s.ports = newPortTable(logger, s.env.chunks)
	s.resolvers = newResolvers(logger)
	s.tunnels = newTunnels(logger)
	return s
}

// listen takes the folder and the socket. The lock dies with the process, so a
// killed keeper never stands in the next one's way.
func (s *server) listen(ctx context.Context) (err error) {
	for _, dir := range []string{s.cfg.Dir, filepath.Join(s.cfg.Dir, "io"), filepath.Dir(s.cfg.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return cnm.Errorf(classOf(err), "keeper folder: %w", err)
		}
	}
	path := filepath.Join(s.cfg.Dir, "lock")
	if s.lock, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return cnm.Errorf(classOf(err), "keeper lock: %w", err)
	}
	defer func() {
		if err != nil {
			s.lock.Close()
		}
	}()
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		return cnm.Conflict("%w for %s (pid %s): use it, or end it first", ErrRunning, s.cfg.Dir, cmp.Or(strings.TrimSpace(string(holder)), "unknown"))
	}
	if err := s.lock.Truncate(0); err == nil {
		_, _ = fmt.Fprintln(s.lock, os.Getpid())
	}
	// The folder is ours; the socket could still be another folder's keeper's.
	if c, err := net.Dial("unix", s.cfg.Socket); err == nil {
		c.Close()
		return cnm.Conflict("%w: something answers on socket %s that is not the keeper of %s", ErrRunning, s.cfg.Socket, s.cfg.Dir)
	}
	if err := os.Remove(s.cfg.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return cnm.Errorf(classOf(err), "keeper socket: %w", err)
	}
	if len(s.cfg.Socket) > 107 {
		return cnm.Invalid("keeper socket %s: a unix socket's path has at most 107 bytes, this has %d", s.cfg.Socket, len(s.cfg.Socket))
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", s.cfg.Socket)
	if err != nil {
		return cnm.Errorf(classOf(err), "keeper socket: %w", err)
	}
	s.l = l.(*net.UnixListener)
	s.l.SetUnlinkOnClose(false) // an upgrade closes this copy and keeps the path
	if err := os.Chmod(s.cfg.Socket, 0o600); err != nil {
		s.l.Close()
		return cnm.Errorf(classOf(err), "keeper socket: %w", err)
	}
	return nil
}

// run starts accepting.
func (s *server) run() { s.serving.Go(s.accept) }

func (s *server) accept() {
	for {
		c, err := s.l.AcceptUnix()
		switch {
		case err == nil:
			s.addControl(c)
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		default:
			s.env.logger.Warn("the keeper's socket cannot accept", "err", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func (s *server) addControl(conn *net.UnixConn) {
	if err := checkPeer(conn); err != nil {
		s.env.logger.Warn("connection to the keeper refused", "err", err)
		conn.Close()
		return
	}
	c := newControl(s, conn)
	s.mu.Lock()
	s.controls[c] = struct{}{}
	s.mu.Unlock()
	c.start()
}

// checkPeer lets in root and the keeper's own user. The socket's mode says the
// same; this holds when someone changed that.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if cerr != nil {
		return cerr
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return cnm.Errorf(cnm.ErrForbidden, "user %d (pid %d) may not speak to the keeper", cred.Uid, cred.Pid)
	}
	return nil
}

// broadcast tells every daemon.
func (s *server) broadcast(event string, body any) {
	s.mu.Lock()
	all := make([]*control, 0, len(s.controls))
	for c := range s.controls {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.event(event, body)
	}
}

// ask makes Serve leave.
func (s *server) ask(r stopReason) {
	select {
	case s.stopped <- r:
	default:
	}
}

func (s *server) leaveWhenIdle(ctx context.Context) {
	tick := time.NewTicker(s.cfg.IdleExit)
	defer tick.Stop()
	for quiet := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		idle := len(s.controls) == 0 && len(s.streams) == 0 && len(s.retired) == 0 && s.ports.empty() && s.resolvers.empty() && s.tunnels.empty()
		s.mu.Unlock()
		if idle && quiet {
			s.env.logger.Info("keeper leaves: no daemon, no stream, no port, no resolver, no tunnel", "after", s.cfg.IdleExit)
			s.ask(stopKeep)
			return
		}
		quiet = idle
	}
}

// stop closes everything.
func (s *server) stop(r stopReason) {
	s.swap.Lock()
	defer s.swap.Unlock()
	s.l.Close()
	s.serving.Wait()
	s.mu.Lock()
	controls := make([]*control, 0, len(s.controls))
	for c := range s.controls {
		controls = append(controls, c)
	}
	streams := slices.Collect(maps.Keys(s.retired))
	for _, st := range s.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	s.ports.release("")
	s.resolvers.close()
	s.tunnels.close()
	var wg sync.WaitGroup
	for _, st := range streams {
		wg.Go(func() {
			if err := st.close(r == stopRemove || st.hasEnded()); err != nil {
				s.env.logger.Warn("closing a stream", "err", err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), lingerTime)
			defer cancel()
			_ = st.drain(ctx)
		})
	}
	wg.Wait()
	if r == stopRemove {
		_ = os.RemoveAll(filepath.Join(s.cfg.Dir, "io"))
	}
	_ = os.Remove(s.cfg.Socket)
	for _, c := range controls {
		c.finish()
	}
	// The lock's file stays: if it went, two keepers could lock two files of the
	// same name.
	s.lock.Close()
	s.env.logger.Info("keeper ends", "pid", os.Getpid())
}
