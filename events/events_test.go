package events

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func publish(b *Bus, n int) {
	for i := range n {
		b.Publish(Event{Type: "container", Action: "start", ID: fmt.Sprint(i)})
	}
}

func TestSubscribeWithoutGap(t *testing.T) {
	b := New()
	publish(b, 3)
	ctx, cancel := context.WithCancel(context.Background())
	past, coming := b.Subscribe(ctx, time.Unix(0, 0))
	publish(b, 2)
	if len(past) != 3 || past[2].ID != "2" {
		t.Errorf("%v", past)
	}
	for i := range 2 {
		if e := <-coming; e.ID != fmt.Sprint(i) {
			t.Errorf("%v", e)
		}
	}
	cancel()
	if _, open := <-coming; open {
		t.Error("the channel did not close with its context")
	}
	publish(b, 1) // to nobody
	if none, _ := b.Subscribe(t.Context(), time.Time{}); none != nil {
		t.Errorf("without since there is no past: %v", none)
	}
}

// TestSinceIsExact: an event's own time asks for it and those after it, even if
// they were published within one tick of the clock.
func TestSinceIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock stands still
		b := New()
		publish(b, 5)
		all, _ := b.Subscribe(t.Context(), time.Unix(0, 0))
		for i := 1; i < len(all); i++ {
			if !all[i].Time.After(all[i-1].Time) {
				t.Fatalf("times do not increase: %v", all)
			}
		}
		from, _ := b.Subscribe(t.Context(), all[2].Time)
		if len(from) != 3 || from[0].ID != "2" {
			t.Errorf("%v", from)
		}
	})
}

func TestRemembersTheLast(t *testing.T) {
	b := New()
	publish(b, 5*keep)
	past, _ := b.Subscribe(t.Context(), time.Unix(0, 0))
	if len(past) < keep || len(past) > 2*keep || past[len(past)-1].ID != fmt.Sprint(5*keep-1) {
		t.Errorf("%d remembered, the last is %v", len(past), past[len(past)-1])
	}
}

// TestSlowReader: one who does not read is let go, and blocks nobody.
func TestSlowReader(t *testing.T) {
	b := New()
	_, slow := b.Subscribe(t.Context(), time.Time{})
	_, quick := b.Subscribe(t.Context(), time.Time{})
	got := make(chan int)
	go func() {
		n := 0
		for range quick {
			if n++; n == keep+10 {
				break
			}
		}
		got <- n
	}()
	for i := range keep + 10 {
		b.Publish(Event{ID: fmt.Sprint(i)})
		if i%100 == 0 {
			time.Sleep(time.Millisecond) // the quick one keeps up
		}
	}
	n := 0
	for range slow {
		n++
	}
	if n != keep {
		t.Errorf("the slow reader had %d, want the %d that fit", n, keep)
	}
	if n := <-got; n != keep+10 {
		t.Errorf("the quick reader had %d", n)
	}
}

func TestConcurrent(t *testing.T) {
	b := New()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				ctx, cancel := context.WithCancel(context.Background())
				b.Subscribe(ctx, time.Unix(0, 0))
				publish(b, 1)
				cancel()
			}
		})
	}
	wg.Wait()
	for i := 0; ; i++ { // AfterFunc runs on its own
		b.mu.Lock()
		n := len(b.subs)
		b.mu.Unlock()
		if n == 0 {
			break
		}
		if i > 1000 {
			t.Fatalf("%d subscriptions are left", n)
		}
		time.Sleep(time.Millisecond)
	}
}
