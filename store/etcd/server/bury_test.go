package server

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// readers counts how many streams of members are read in this process: four for each of
// three members.
func readers() int {
	b := make([]byte, 8<<20)
	b = b[:runtime.Stack(b, true)]
	return strings.Count(string(b), "rafthttp.(*streamReader).run(")
}

// TestStuckRun: what fails may be what applies, and not what speaks to the others. That
// run must not go on as this member beside the next one, be it the leader or not.
func TestStuckRun(t *testing.T) {
	cs, ss, _ := three(t)
	kv := client(t, cs[0].ClientURL(), cs[1].ClientURL(), cs[2].ClientURL())
	put(t, kv, "k", "0")
	if n := readers(); n != 12 {
		t.Fatalf("%d streams are read", n)
	}
	for _, who := range []string{"leader", "follower"} {
		var s *Server
		for _, x := range ss {
			if st := x.Status(); (st.Leader == st.ID) == (who == "leader") {
				s = x
			}
		}
		m, err := s.running()
		if err != nil {
			t.Fatal(err)
		}
		// The backend's lock is held by a goroutine that is no more.
		m.etcd.Server.Backend().BatchTx().LockOutsideApply()
		time.Sleep(300 * time.Millisecond) // what applies, waits for it
		m.end(errors.New("failed to commit tx: no space left on device"))
		eventually(t, who+" failed", func() bool { return s.Failed() != nil })
		eventually(t, "the others take writes", func() bool {
			_, err := kv.Put(within(t, 2*time.Second), "k", who+" is out")
			return err == nil
		})
		eventually(t, who+" runs again", func() bool { return s.Failed() == nil })
		own := client(t, s.cfg.ClientURL())
		eventually(t, who+" has caught up", func() bool {
			r, err := own.Get(within(t, 2*time.Second), "k")
			return err == nil && string(r.Kvs[0].Value) == who+" is out"
		})
		eventually(t, "the stuck run of the "+who+" is quiet", func() bool { return readers() == 12 })
		for _, x := range ss {
			if x.Failed() != nil {
				t.Errorf("%s: %v", x.cfg.Name, x.Failed())
			}
		}
	}
}
