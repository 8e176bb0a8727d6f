package server

import (
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// TestApart: what etcd calls impossible ends no goroutine of the daemon's. The keeper of
// a host's role has been ended so: it asked a member that was removed a moment ago how it
// was, and nobody looked after that host any more.
func TestApart(t *testing.T) {
	t.Parallel()
	c, said := config(t, "a")
	s := start(t, c)
	m, err := s.running()
	if err != nil {
		t.Fatal(err)
	}
	// It is not among its own members any more, and does not know yet.
	m.etcd.Server.Cluster().(*membership.RaftCluster).SetID(0xdead, 0xbeef)
	answered := make(chan Status, 1)
	go func() { answered <- s.Status() }()
	select {
	case <-answered:
	case <-time.After(time.Minute):
		t.Fatal("who asked is no more")
	}
	if err := s.Failed(); err != nil {
		t.Errorf("it failed of a question: %v", err)
	}
	// Who asks by the network gets there all the same. Of that it does not fail either, as
	// one that was removed stops in order. This one was not: it fails, and runs again.
	cl := client(t, c.ClientURL())
	_, _ = cl.Status(within(t, time.Second), c.ClientURL())
	if now, err := s.running(); err != nil || now != m {
		t.Errorf("it failed at once: %v", err)
	}
	eventually(t, "it fails and runs again", func() bool {
		now, err := s.running()
		return err == nil && now != m
	})
	if !strings.Contains(said.String(), "failed to find local ID in cluster members") {
		t.Errorf("it did not fail of that:\n%s", said)
	}
	put(t, cl, "k", "v")

	if m, err = s.running(); err != nil {
		t.Fatal(err)
	}
	if err := m.apart(func() {}); err != nil {
		t.Errorf("%v", err)
	}
	lg := logger(nil, m, m.hear)
	err = m.apart(func() { lg.Panic("impossible", zap.Error(errStopped)) })
	if err == nil || !strings.Contains(err.Error(), "impossible: etcd stopped") {
		t.Errorf("%v", err)
	}
}
