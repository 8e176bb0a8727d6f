package dns

import "sync/atomic"

// counters count since the start.
type counters struct {
	Queries, TCP, Dropped, Refused, Local atomic.Uint64
}
