package keeper

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// handle runs one request. files are the request's descriptors; they are closed
// on return.
func (s *server) handle(ctx context.Context, c *control, q request, files []int) (any, error) {
	if q.Op == opAttach {
		return s.handleAttach(c, q, files)
	}
	if q.Op == opSetView {
		return s.handleView(q, files)
	}
	closeAll(files)
	switch q.Op {
	case opInfo:
		return s.info()
	case opOpen:
		return with(q, s.openStream)
	case opStarted:
		return with(q, s.startedStream)
	case opDrain:
		return with(q, func(b idBody) (any, error) { return nil, s.drainStream(ctx, b.ID) })
	case opClose:
		return with(q, func(b idBody) (any, error) { return nil, s.closeStream(b.ID) })
	case opCloseStdin:
		return with(q, s.closeStdin)
	case opStreams:
		return s.listStreams(), nil
	case opReserve:
		return with(q, func(b reserveBody) (any, error) { return nil, s.ports.reserve(ctx, b.Requests) })
	case opRelease:
		return with(q, func(b ownerBody) (any, error) {
			if b.Owner == "" {
				return nil, cnm.Invalid("release: no owner is named")
			}
			s.ports.release(b.Owner)
			return nil, nil
		})
	case opPorts:
		return s.ports.list(), nil
	case opRetarget:
		return with(q, func(b reserveBody) (any, error) { return nil, s.ports.retarget(b.Requests) })
	case opRemoveView:
		return with(q, func(b idBody) (any, error) { s.resolvers.removeView(b.ID); return nil, nil })
	case opViews:
		return s.resolvers.views(), nil
	case opSetNames:
		return with(q, s.setNames)
	case opRemoveNames:
		return with(q, func(b zoneBody) (any, error) {
			s.resolvers.server.RemoveNames(b.Zone, b.Endpoints)
			return nil, nil
		})
	case opKeepZones:
		return with(q, func(b zonesBody) (any, error) { s.resolvers.server.KeepZones(b.Zones); return nil, nil })
	case opResolvers:
		return s.resolvers.server.Metrics(), nil
	case opSetTunnel:
		return with(q, s.setTunnel)
	case opRemoveTunnel:
		return with(q, func(b idBody) (any, error) { s.tunnels.remove(b.ID); return nil, nil })
	case opTunnels:
		return s.tunnels.list(), nil
	case opShutdown:
		return nil, nil // control asks for the stop once this is answered
	case opUpgrade:
		return with(q, func(b upgradeBody) (any, error) { return nil, s.upgrade(b.Exe) })
	}
	return nil, cnm.Unsupported("this keeper (version %s) does not know %q: upgrade it", s.cfg.Version, q.Op)
}

// with decodes a body.
func with[B any](q request, run func(B) (any, error)) (any, error) {
	var b B
	if err := json.Unmarshal(q.Body, &b); err != nil {
		return nil, cnm.Invalid("%s: malformed request: %w", q.Op, err)
	}
	return run(b)
}

func (s *server) info() (Info, error) {
	inode, err := netInode()
	return Info{PID: os.Getpid(), Version: s.cfg.Version, Started: s.began, NetInode: inode}, err
}

// netInode tells which network namespace this thread is in. /proc/self would be
// the first thread, which may be visiting a sandbox at this moment.
func netInode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, cnm.Errorf(cnm.ErrUnavailable, "this process's network namespace cannot be read: %w", err)
	}
	return st.Ino, nil
}

// validID keeps ids from being paths: they name folders.
var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

func checkID(id string) error {
	if !validID.MatchString(id) {
		return cnm.Invalid("stream id %q: letters, digits, '_', '.' and '-' only, at most 128", id)
	}
	return nil
}

func (s *server) openStream(spec StreamSpec) (any, error) {
	if err := checkID(spec.ID); err != nil {
		return nil, err
	}
	if spec.LogPath != "" && !filepath.IsAbs(spec.LogPath) {
		return nil, cnm.Invalid("stream %s: the log's path %q is not absolute", spec.ID, spec.LogPath)
	}
	if spec.Log.MaxSize < 0 || spec.Log.MaxFile < 0 {
		return nil, cnm.Invalid("stream %s: the log's size %d and number of files %d cannot be negative", spec.ID, spec.Log.MaxSize, spec.Log.MaxFile)
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	former := s.find(spec.ID)
	if former != nil && !former.hasEnded() {
		former.setLog(spec.Log)
		return former.paths(), nil
	}
	st, err := s.env.openStream(spec, former != nil)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.streams[spec.ID] = st
	s.mu.Unlock()
	s.retire(former)
	return st.paths(), nil
}

// retire remembers an ended stream until its clients have everything.
func (s *server) retire(st *stream) {
	if st == nil {
		return
	}
	s.mu.Lock()
	s.retired[st] = struct{}{}
	s.mu.Unlock()
	go func() {
		_ = st.drain(context.Background())
		s.mu.Lock()
		delete(s.retired, st)
		s.mu.Unlock()
	}()
}

func (s *server) find(id string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

// need finds a stream that must be there.
func (s *server) need(id string) (*stream, error) {
	if st := s.find(id); st != nil {
		return st, nil
	}
	return nil, cnm.NotFound("the keeper has no stream %s: declare it first", id)
}

func (s *server) startedStream(b idBody) (any, error) {
	st, err := s.need(b.ID)
	if err == nil {
		st.begin()
	}
	return nil, err
}

func (s *server) closeStdin(b idBody) (any, error) {
	st, err := s.need(b.ID)
	if err == nil {
		st.closeStdin()
	}
	return nil, err
}

func (s *server) drainStream(ctx context.Context, id string) error {
	if st := s.find(id); st != nil {
		return st.drain(ctx)
	}
	return nil
}

// closeStream forgets a stream. Of one that is not there it removes what an
// earlier keeper may have left.
func (s *server) closeStream(id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	st := s.find(id)
	if st == nil {
		st = s.env.base(StreamSpec{ID: id})
		return st.close(true)
	}
	if err := st.close(true); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.streams, id)
	s.mu.Unlock()
	s.retire(st)
	return nil
}

func (s *server) listStreams() []StreamInfo {
	s.mu.Lock()
	all := make([]*stream, 0, len(s.streams))
	for _, st := range s.streams {
		all = append(all, st)
	}
	s.mu.Unlock()
	out := make([]StreamInfo, 0, len(all))
	for _, st := range all {
		out = append(out, st.info())
	}
	return out
}

// handleAttach takes the client over. Its end is reported to the connection that
// brought it, under the request's ID.
func (s *server) handleAttach(c *control, q request, files []int) (any, error) {
	if len(files) != 1 {
		closeAll(files)
		return nil, cnm.Invalid("attach: %d descriptors came, want the client's socket", len(files))
	}
	client := os.NewFile(uintptr(files[0]), "client")
	defer client.Close()
	return with(q, func(b attachBody) (any, error) {
		st, err := s.need(b.ID)
		if err != nil {
			return nil, err
		}
		conn, err := newConn(client)
		if err != nil {
			return nil, err
		}
		if err := st.attach(b.Options, conn, origin{c, q.ID}); err != nil {
			conn.Close()
			return nil, err
		}
		return nil, nil
	})
}
