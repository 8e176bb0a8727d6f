package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

// asking is host b, which answers questions at a free port of loopback, and host a, which
// asks; change is made to b's configuration.
func asking(t *testing.T, change func(*Config)) (a *Checker, b cnm.Peer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	l.Close()
	node1 := &node{u: &cnm.Underlay{Host: "a", Name: "a", Addr: netip.MustParseAddr("127.0.0.2")}}
	node2 := &node{u: &cnm.Underlay{Host: "b", Name: "b", Addr: netip.MustParseAddr("127.0.0.1")}}
	id := identities(t, []*node{node1, node2})
	b = cnm.Peer{ID: "b", Name: "b", Addr: node2.u.Addr}
	none := func() *cnm.Underlay { return nil }
	cfg := Config{ID: "b", Name: "b", Port: port, Server: id["b"], Client: id["b"], Underlay: none, Peers: func() []cnm.Peer { return []cnm.Peer{{ID: "a", Name: "a"}} },
		Question: func(_ context.Context, from cnm.Peer, q []byte) ([]byte, error) {
			return fmt.Appendf(nil, `{"from":%q,"heard":%s}`, from.Name, q), nil
		}}
	if change != nil {
		change(&cfg)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { New(cfg).answer(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done })
	a = New(Config{ID: "a", Name: "a", Port: port, Server: id["a"], Client: id["a"], Underlay: none, Peers: func() []cnm.Peer { return []cnm.Peer{b} }})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			return a, b
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestQuestion(t *testing.T) {
	a, b := asking(t, nil)
	got, err := a.Ask(t.Context(), b, []byte(`{"what":"is it"}`))
	if err != nil || string(got) != `{"from":"a","heard":{"what":"is it"}}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestQuestionRefused(t *testing.T) {
	long := strings.Repeat("x", maxAnswer)
	for _, c := range []struct {
		name   string
		change func(*Config)
		ask    func(a *Checker, b *cnm.Peer) []byte
		says   string
	}{
		{"no peer of its own", func(c *Config) { c.Peers = func() []cnm.Peer { return nil } }, nil, "knows no host of this certificate"},
		{"it answers none", func(c *Config) { c.Question = nil }, nil, "answers no questions"},
		{"it refuses", func(c *Config) {
			c.Question = func(context.Context, cnm.Peer, []byte) ([]byte, error) { return nil, errors.New("no such container") }
		}, nil, "no such container"},
		{"a long answer", func(c *Config) {
			c.Question = func(context.Context, cnm.Peer, []byte) ([]byte, error) { return []byte(`"` + long + `"`), nil }
		}, nil, "the answer is too long"},
		{"too slow", func(c *Config) {
			c.Question = func(ctx context.Context, _ cnm.Peer, _ []byte) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}, nil, "does not answer in time"},
		{"a long question", nil, func(*Checker, *cnm.Peer) []byte { return []byte(`"` + long[:maxQuestion] + `"`) }, "the question is too long"},
		{"another host there", nil, func(_ *Checker, b *cnm.Peer) []byte { b.ID = "c"; return []byte(`1`) }, "another host of the mesh answers"},
		{"no certificates", nil, func(a *Checker, _ *cnm.Peer) []byte { a.cfg.Client = nil; return []byte(`1`) }, "the mesh has no certificates of its own"},
		{"nobody there", nil, func(a *Checker, _ *cnm.Peer) []byte { a.cfg.Port = 1; return []byte(`1`) }, "its daemon does not run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := asking(t, c.change)
			q := []byte(`1`)
			if c.ask != nil {
				q = c.ask(a, &b)
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			began := time.Now()
			got, err := a.Ask(ctx, b, q)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%.80s, %v; want %q", got, err, c.says)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("after %v", took)
			}
		})
	}
}

// TestQuestionsBounded: a host that asks all the time is answered so often, and no more;
// the others are all the same.
func TestQuestionsBounded(t *testing.T) {
	a := newAsks()
	now := time.Now()
	answered := 0
	for range 100 {
		if a.take("greedy", now) {
			answered++
		}
	}
	if answered != askBurst || !a.take("modest", now) {
		t.Errorf("%d were answered at once", answered)
	}
	if a.take("greedy", now.Add(50*time.Millisecond)) || !a.take("greedy", now.Add(200*time.Millisecond)) {
		t.Error("after a rest one more is answered, and before none")
	}
}
