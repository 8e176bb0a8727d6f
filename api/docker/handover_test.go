package docker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestHandovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandovers()
		begun := time.Now()
		took := func() time.Duration { return time.Since(begun).Round(time.Millisecond) }
		h.wait(context.Background(), "a")
		if took() != 0 {
			t.Error("waited for nothing")
		}
		end1, end2, other := h.begin("a"), h.begin("a"), h.begin("b")
		time.AfterFunc(20*time.Millisecond, end1)
		time.AfterFunc(30*time.Millisecond, other)
		time.AfterFunc(50*time.Millisecond, end2)
		h.wait(context.Background(), "a")
		if took() != 50*time.Millisecond {
			t.Errorf("waited %v", took())
		}
		end1() // once more is nothing
		if len(h.open) != 0 {
			t.Errorf("%v", h.open)
		}
		defer h.begin("c")()
		h.wait(context.Background(), "c") // hangs, and is not waited for longer than this
		if took() != 50*time.Millisecond+handoverBound {
			t.Errorf("waited %v", took())
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		h.wait(ctx, "c")
		if took() != 50*time.Millisecond+handoverBound {
			t.Errorf("waited %v though the client went", took())
		}
	})
}
