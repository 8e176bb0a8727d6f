package docker

import (
	"context"
	"sync"
	"time"
)

// handovers counts, by container, the connections that the client has already
// been told are attached (the 101 is sent) and that the keeper does not have
// yet. A client starts its container as soon as it reads the 101; a start that
// overtook the handover would lose the container's first lines.
type handovers struct {
	mu   sync.Mutex
	open map[string]int
	gone chan struct{} // closed and replaced whenever a count reaches zero
}

// handoverBound is how long a start waits for handovers. They take a
// millisecond; one that hangs must not keep a container from starting.
const handoverBound = time.Second

func newHandovers() *handovers {
	return &handovers{open: map[string]int{}, gone: make(chan struct{})}
}

// begin counts one; the function it returns ends it, once.
func (h *handovers) begin(id string) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[id]++
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.open[id]--; h.open[id] == 0 {
			delete(h.open, id)
			close(h.gone)
			h.gone = make(chan struct{})
		}
	})
}

// wait returns once the container has no open handover.
func (h *handovers) wait(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, handoverBound)
	defer cancel()
	for {
		h.mu.Lock()
		n, gone := h.open[id], h.gone
		h.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-gone:
		}
	}
}
