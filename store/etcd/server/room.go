package server

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (c Config) room() int64 {
	if c.Room > 0 {
		return c.Room
	}
	return lowRoom
}

func (c Config) quota() int64 {
	if c.Quota > 0 {
		return c.Quota
	}
	return DefaultQuota
}

// care keeps the database within its quota and its disk, and takes alarms back when
// there is room again. etcd raises an alarm when the quota is reached and leaves the rest
// to a person (etcd.io/docs, maintenance, space quota).
func (s *Server) care(ctx context.Context, m *member) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	log := s.cfg.log().With("member", s.cfg.Name)
	e := m.etcd.Server
	room, err := free(s.cfg.Dir)
	if err != nil {
		log.Warn("etcd: the room of the data folder is not known", "error", err)
		return
	}
	low := room < s.cfg.room()
	var mine, any bool
	for _, a := range e.Alarms() {
		if a.Alarm == pb.AlarmType_NOSPACE {
			any = true
			mine = mine || a.MemberID == uint64(e.MemberID())
		}
	}
	// Of several members one with a full disk may fall: the others go on. One alone
	// stops taking writes while it can still read.
	alone := len(e.Cluster().Members()) == 1
	if low && alone && !mine {
		log.Error("etcd: the data folder is almost full; nothing is written until there is room", "dir", s.cfg.Dir, "free", room)
		s.alarm(ctx, m, pb.AlarmRequest_ACTIVATE)
		return
	}
	if !any {
		return
	}
	quota, b := s.cfg.quota(), e.Backend()
	if b.Size() > quota*8/10 && !low {
		if e.Leader() == e.MemberID() {
			// History goes; who watched from there lists again.
			if _, err := e.Compact(ctx, &pb.CompactionRequest{Revision: e.KV().Rev(), Physical: true}); err != nil {
				log.Debug("etcd: not compacted", "error", err)
			}
		}
		// The copy needs as much room as what is in use.
		if b.SizeInUse() < b.Size()*8/10 && b.SizeInUse() < room-s.cfg.room() {
			if err := b.Defrag(); err != nil {
				log.Warn("etcd: the database was not made smaller", "error", err)
			}
		}
	}
	if mine && b.Size() < quota*9/10 && room >= 2*s.cfg.room() {
		if s.alarm(ctx, m, pb.AlarmRequest_DEACTIVATE) {
			log.Info("etcd: there is room again; writes are taken", "size", b.Size(), "free", room)
		}
	}
}

func (s *Server) alarm(ctx context.Context, m *member, do pb.AlarmRequest_AlarmAction) bool {
	e := m.etcd.Server
	_, err := e.Alarm(ctx, &pb.AlarmRequest{Action: do, MemberID: uint64(e.MemberID()), Alarm: pb.AlarmType_NOSPACE})
	if err != nil {
		s.cfg.log().Warn("etcd: the alarm for room was not changed", "member", s.cfg.Name, "error", err)
	}
	return err == nil
}
