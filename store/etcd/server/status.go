package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/storage/backend"

	"linkspan/cnm"
)

// Status is what a member says of itself without asking the others.
type Status struct {
	Name string
	ID   uint64
	// Leader is the leader's id; 0: none is known, so that nothing can be written here.
	Leader  uint64
	Learner bool
	// Members are all that the cluster has, learners among them, and Voters those that count.
	Members, Voters int
	// DBSize is the database's file, DBInUse what of it is data, Quota what it may reach,
	// Free the room on its disk, all in bytes.
	DBSize, DBInUse, Quota, Free int64
	Revision                     int64
	// Alarms are in words.
	Alarms []string
	// Err is why the member does not run; Since when that is so, or when it was started.
	Err   error
	Since time.Time
}

// Status never waits.
func (s *Server) Status() Status {
	s.mu.Lock()
	m := s.member
	st := Status{Name: s.cfg.Name, Quota: s.cfg.quota(), Err: s.err, Since: s.since}
	s.mu.Unlock()
	st.Free, _ = free(s.cfg.Dir)
	if m == nil {
		return st
	}
	e := m.etcd.Server
	st.ID, st.Leader = uint64(e.MemberID()), uint64(e.Leader())
	for _, other := range e.Cluster().Members() {
		// Not e.IsLearner: that panics in a member that was removed and is about to end.
		st.Learner = st.Learner || other.ID == e.MemberID() && other.IsLearner
		st.Members++
		if !other.IsLearner {
			st.Voters++
		}
	}
	b := e.Backend()
	st.DBSize, st.DBInUse = b.Size(), b.SizeInUse()
	st.Revision = e.KV().Rev()
	for _, a := range e.Alarms() {
		st.Alarms = append(st.Alarms, alarmWords(a.MemberID, a.Alarm.String()))
	}
	return st
}

func alarmWords(member uint64, alarm string) string {
	switch alarm {
	case "NOSPACE":
		return fmt.Sprintf("member %x has no room: nothing can be written until its database or its disk has room again", member)
	case "CORRUPT":
		return fmt.Sprintf("member %x has other data than the rest: demote its host and promote it again", member)
	}
	return fmt.Sprintf("member %x: %s", member, strings.ToLower(alarm))
}

// Snapshot writes the whole database, as it is on this member, also without a majority.
// It ends with its SHA-256, as those of etcdctl do.
func (s *Server) Snapshot(ctx context.Context, w io.Writer) error {
	m, err := s.running()
	if err != nil {
		return err
	}
	var snap backend.Snapshot
	if err := m.apart(func() { snap = m.etcd.Server.Backend().Snapshot() }); err != nil {
		return s.cfg.words(err)
	}
	defer snap.Close()
	h := sha256.New()
	if _, err := snap.WriteTo(io.MultiWriter(&cancelled{ctx, w}, h)); err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "backup of etcd member %s: %w", s.cfg.Name, err)
	}
	if _, err := w.Write(h.Sum(nil)); err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "backup of etcd member %s: %w", s.cfg.Name, err)
	}
	return nil
}

// cancelled is a writer that ends with its context.
type cancelled struct {
	ctx context.Context
	w   io.Writer
}

func (c *cancelled) Write(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
