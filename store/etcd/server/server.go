// Package server is one etcd member inside the daemon: the first hosts of a mesh keep its
// truth among them (store/etcd is how every host reads it). It starts, watches over its
// room and its database, and comes back by itself after a failure that would have ended
// an etcd of its own process.
package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"linkspan/cnm"
)

// Server is a member that runs, or that is about to run again.
type Server struct {
	cfg   Config
	stop  context.CancelFunc
	ended chan struct{} // run has returned
	ready chan struct{} // closed when the member was in the cluster for the first time

	mu     sync.Mutex
	member *member // nil while it does not run
	err    error   // why not, or why it is not in the cluster
	since  time.Time
}

// Start is Open, and Wait until the member takes part. When ctx ends before, it is
// stopped again: members that wait for each other want Open.
func Start(ctx context.Context, c Config) (*Server, error) {
	s, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := s.Wait(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Open starts a member. It answers when the member runs, which does not mean that it has
// found the others: Wait does that, Status says it. A member that fails later is started
// again, after a pause, until Stop.
func Open(ctx context.Context, c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	used, err := c.folder()
	if err != nil {
		return nil, err
	}
	if room, err := free(c.Dir); err == nil && !used && room < firstRoom {
		return nil, cnm.Errorf(cnm.ErrExhausted, "etcd member %s: its data folder %s has room for %d MiB, and a member needs %d MiB: make room there, or let another host keep the mesh's state", c.Name, c.Dir, room>>20, firstRoom>>20)
	}
	m, err := begin(c)
	if err != nil {
		return nil, c.words(err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{cfg: c, stop: cancel, ended: make(chan struct{}), ready: make(chan struct{}), member: m, since: time.Now()}
	go s.run(run)
	return s, nil
}

// Wait returns when the member has found the cluster and its leader.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-s.ended:
		return s.why()
	case <-ctx.Done():
		if err := s.Failed(); err != nil {
			return err
		}
		return cnm.Errorf(cnm.ErrUnavailable, "etcd member %s: it runs but sees no majority of the members: are the daemons on the other members there and TCP port %d open between them? %w", s.cfg.Name, s.cfg.Peer.Port(), context.Cause(ctx))
	}
}

// Done is closed when the member will not run any more: after Stop, or when the cluster
// has removed it (Failed says so).
func (s *Server) Done() <-chan struct{} { return s.ended }

// Failed is why the member does not run at the moment, or nil.
func (s *Server) Failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Removed says whether the cluster has removed this member.
func (s *Server) Removed() bool { return errors.Is(s.Failed(), errRemoved) }

func (s *Server) why() error {
	if err := s.Failed(); err != nil {
		return err
	}
	return cnm.Errorf(cnm.ErrUnavailable, "etcd member %s was stopped", s.cfg.Name)
}

// Stop ends the member. A leader hands its office over first.
func (s *Server) Stop() {
	s.stop()
	<-s.ended
}

// running is the member, or why there is none.
func (s *Server) running() (*member, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member == nil {
		if s.err != nil {
			return nil, s.err
		}
		return nil, cnm.Errorf(cnm.ErrUnavailable, "etcd member %s was stopped", s.cfg.Name)
	}
	return s.member, nil
}

func (s *Server) set(m *member, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.member, s.err, s.since = m, err, time.Now()
}

const (
	firstPause = 2 * time.Second
	lastPause  = time.Minute
	// steady is how long a member must run for its next failure to be a first one.
	steady = 5 * time.Minute
	// look is how often room and alarms are looked at.
	look = 5 * time.Second
)

func (s *Server) run(ctx context.Context) {
	defer close(s.ended)
	log := s.cfg.log().With("member", s.cfg.Name)
	pause := firstPause
	m := s.member
	for {
		began := time.Now()
		err := s.watch(ctx, m)
		m.close()
		if err == nil {
			s.set(nil, nil)
			return
		}
		err = s.cfg.words(err)
		s.set(nil, err)
		if errors.Is(err, errRemoved) {
			log.Info("etcd: the cluster has removed this member", "dir", s.cfg.Dir)
			return
		}
		if time.Since(began) > steady {
			pause = firstPause
		}
		log.Error("etcd: the member has failed; it is started again", "error", err, "in", pause)
		if m = s.again(ctx, &pause); m == nil {
			return
		}
		log.Info("etcd: the member runs again")
	}
}

// again starts the member until it runs, with longer and longer pauses, and not while its
// folder has no room. It answers nil when ctx ends.
func (s *Server) again(ctx context.Context, pause *time.Duration) *member {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(*pause):
		}
		*pause = min(2**pause, lastPause)
		if room, err := free(s.cfg.Dir); err == nil && room < s.cfg.room() {
			*pause = min(*pause, look) // looking is cheap
			continue
		}
		m, err := begin(s.cfg)
		if err != nil {
			s.set(nil, s.cfg.words(err))
			continue
		}
		s.set(m, nil)
		return m
	}
}

// watch looks after a running member until ctx ends (nil) or the member fails.
func (s *Server) watch(ctx context.Context, m *member) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	ready := m.ready
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.failed:
			return m.err
		case <-ready:
			ready = nil
			select {
			case <-s.ready:
			default:
				close(s.ready)
			}
		case <-tick.C:
			if ready == nil {
				_ = m.apart(func() { s.care(ctx, m) }) // a failure is told above
			}
		}
	}
}
