package check

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

const (
	// sessionLife is how long a key is good after the last probe with it.
	sessionLife = 10 * time.Minute
	// sessionsMax is of all hosts together: three for each of a mesh of a thousand.
	sessionsMax = 4096
)

// session is what one prober's datagrams are signed and counted by.
type session struct {
	id   uint64
	key  []byte
	used time.Time
	tally
}

// tally is what arrived of a prober's datagrams.
type tally struct {
	Received int `json:"received"`
	// Damaged arrived with another content than they were sent with.
	Damaged int `json:"damaged"`
	// Largest is in bytes, IP header and all.
	Largest int `json:"largest"`
	// Checksums is how many packets this host's kernel has thrown away so far because
	// their checksum was wrong.
	Checksums uint64 `json:"checksums"`
}

type sessions struct {
	mu sync.Mutex
	by map[uint64]*session
}

// open gives out a key.
func (s *sessions) open(now time.Time) *session {
	b := make([]byte, 8+keySize)
	rand.Read(b)
	n := &session{id: binary.BigEndian.Uint64(b), key: b[8:], used: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest *session
	for id, o := range s.by {
		if now.Sub(o.used) > sessionLife {
			delete(s.by, id)
		} else if oldest == nil || o.used.Before(oldest.used) {
			oldest = o
		}
	}
	if len(s.by) >= sessionsMax {
		delete(s.by, oldest.id)
	}
	s.by[n.id] = n
	return n
}

// arrived judges a datagram of that many bytes with its IP header; the answer is nil where
// there is to be none.
func (s *sessions) arrived(b []byte, whole int, now time.Time) (answer []byte) {
	p, ok := peek(b)
	if !ok || p.kind != isProbe {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.by[p.session]
	if n == nil {
		return nil
	}
	if !sealed(n.key, b) {
		n.Damaged++
		return nil
	}
	n.used = now
	n.Received++
	n.Largest = max(n.Largest, whole)
	return packet{session: p.session, number: p.number, kind: isEcho, length: len(b)}.seal(n.key, header)
}

func (s *sessions) tally(id uint64) (tally, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.by[id]
	if n == nil {
		return tally{}, false
	}
	return n.tally, true
}
