package server

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestStopWithWatchers: who watches, and who holds a lease, does not hold up the end: the
// daemon is restarted within its usual time.
func TestStopWithWatchers(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain"} {
		t.Run(name, func(t *testing.T) {
			c, _ := config(t, "a")
			s := start(t, c)
			kv := client(t, c.ClientURL())
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var chans []clientv3.WatchChan
			for range 20 {
				chans = append(chans, kv.Watch(clientv3.WithRequireLeader(ctx), "k", clientv3.WithPrefix(), clientv3.WithCreatedNotify()))
			}
			for _, ch := range chans {
				<-ch // it is there
			}
			l, err := kv.Grant(within(t, time.Minute), 30)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := kv.KeepAlive(ctx, l.ID); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			s.Stop()
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %v", took)
			} else {
				t.Log(took)
			}
			// They go on with the next one.
			start(t, c)
			put(t, kv, "k1", "v")
			for i, ch := range chans {
				for got := false; !got; {
					select {
					case r, ok := <-ch:
						if !ok || r.Err() != nil {
							t.Fatalf("watch %d: %v", i, r.Err())
						}
						got = len(r.Events) > 0
					case <-time.After(time.Minute):
						t.Fatalf("watch %d hears nothing", i)
					}
				}
			}
		})
	}
}

// TestStopWithoutMajority: a member that waits for the others, and one whose clients wait
// for them, stop at once.
func TestStopWithoutMajority(t *testing.T) {
	t.Parallel()
	cs, ss, _ := three(t)
	quick := func(what string, s *Server) {
		t.Helper()
		began := time.Now()
		s.Stop()
		took := time.Since(began)
		t.Logf("%s stopped after %v", what, took)
		if took > 30*time.Second { // three of them at patience are more
			t.Errorf("%s took %v to stop", what, took)
		}
	}
	kv := client(t, cs[0].ClientURL())
	quick("one of three", ss[2])
	quick("another", ss[1])
	asked := make(chan error, 1)
	go func() {
		_, err := kv.Put(within(t, time.Minute), "k", "v")
		asked <- err
	}()
	time.Sleep(300 * time.Millisecond) // it is asked, and cannot answer
	quick("the last, which is asked something", ss[0])
	s, err := Open(context.Background(), cs[0])
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	quick("one that was never ready", s)
}
