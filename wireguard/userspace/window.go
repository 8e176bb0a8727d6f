package userspace

import (
	"runtime"
	"sync"
	"time"
)

// window bounds how many packets are inside the device in one direction. The library
// keeps each in a buffer of 64 KiB and has queues for thousands (its own bound,
// PreallocatedBuffersPerPool, is a constant that is 0 on Linux): a single TCP stream that
// comes in faster than two processors encrypt filled 200 MB. Who reads waits here, so that
// packets wait where they are small: in the TUN device's queue, in the socket's buffer.
//
// What is counted in and never comes out (it was dropped inside) must not stop the
// traffic: callers count only what should come out, and who waited for most gets through
// and has the count begin anew.
type window struct {
	limit int
	most  time.Duration

	mu    sync.Mutex
	n     int
	space chan struct{} // has one element when someone should look again
}

// newWindow makes one that keeps all processors busy: a TCP stream is handed over 45
// packets at a time, and each such batch is one processor's.
func newWindow() *window {
	return &window{limit: max(256, 96*runtime.NumCPU()), most: 100 * time.Millisecond, space: make(chan struct{}, 1)}
}

// wait returns when there is room.
func (w *window) wait() {
	w.mu.Lock()
	if w.n < w.limit {
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	timer := time.NewTimer(w.most)
	defer timer.Stop()
	for {
		select {
		case <-w.space:
		case <-timer.C:
			w.mu.Lock()
			w.n = 0
			w.mu.Unlock()
			return
		}
		w.mu.Lock()
		room := w.n < w.limit
		w.mu.Unlock()
		if room {
			w.wake() // there may be room for another reader too
			return
		}
	}
}

// add counts packets in.
func (w *window) add(n int) {
	w.mu.Lock()
	w.n += n
	w.mu.Unlock()
}

// done counts packets out.
func (w *window) done(n int) {
	w.mu.Lock()
	full := w.n >= w.limit
	w.n = max(0, w.n-n)
	room := w.n < w.limit
	w.mu.Unlock()
	if full && room {
		w.wake()
	}
}

func (w *window) wake() {
	select {
	case w.space <- struct{}{}:
	default:
	}
}
