package flows

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/internal/golden"
	"linkspan/internal/worldtest"
)

func entry(proto, from, dialled, server, as, state string) reading.Flow {
	f := reading.Flow{Proto: proto, State: state, Assured: state == "", DNAT: dialled != server, SNAT: from != as}
	f.Original = reading.Tuple{Src: ap(from), Dst: ap(dialled)}
	f.Reply = reading.Tuple{Src: ap(server), Dst: ap(as)}
	return f
}

func entries(w *worldtest.World) []reading.Flow {
	web, api, six := addr(w, "web", 0), addr(w, "api", 0), "[fd00:77::2]"
	all := []reading.Flow{
		entry("tcp", "192.168.99.50:39330", "192.168.99.31:8080", web+":80", "192.168.99.50:39330", "ESTABLISHED"),
		entry("tcp", api+":51000", "10.0.0.5:443", "10.0.0.5:443", "192.168.99.31:51000", "TIME_WAIT"),
		entry("tcp", "127.0.0.1:41000", "127.0.0.1:8080", web+":80", "172.17.0.1:41000", "SYN_SENT"),
		entry("udp", api+":5000", "192.168.99.1:53", "192.168.99.1:53", "192.168.99.31:5000", ""),
		entry("icmp", web, "8.8.8.8", "8.8.8.8", "192.168.99.31", ""),
		entry("tcp", six+":1", "[2001:db8::9]:443", "[2001:db8::9]:443", six+":1", "ESTABLISHED"),
		entry("tcp", "192.168.99.31:22", "192.168.99.50:7", "192.168.99.50:7", "192.168.99.31:22", "ESTABLISHED"),
	}
	all[0].Counted, all[0].OutPackets, all[0].OutBytes, all[0].BackPackets, all[0].BackBytes = true, 7, 812, 9, 1_934_000
	all[0].Started = time.Now().Add(-72 * time.Second)
	all[3].Assured = false
	all[4].Assured, all[4].Unreplied = false, true
	return all
}

func TestFlowsText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time stands still
		w, k, world := made()
		k.flows = entries(w)
		web, api := addr(w, "web", 0), addr(w, "api", 0)
		db := addr(w, "db", 0)
		tap := &fakeTap{conns: map[string][]reading.Connection{}}
		box := func(name string) string {
			for _, s := range w.Boxes {
				if s.OwnerName == name {
					return s.Path
				}
			}
			return ""
		}
		// The published connection is web's socket too, and api's to db is seen from both ends.
		tap.conns[box("web")] = []reading.Connection{{Local: ap(web + ":80"), Remote: ap("192.168.99.50:39330"), State: "ESTABLISHED", Served: true}}
		tap.conns[box("api")] = []reading.Connection{{Local: ap(api + ":600"), Remote: ap(db + ":5432"), State: "ESTABLISHED", SentBytes: 1000, BackBytes: 2000}}
		tap.conns[box("db")] = []reading.Connection{{Local: ap(db + ":5432"), Remote: ap(api + ":600"), State: "ESTABLISHED", SentBytes: 2000, BackBytes: 1000, Served: true}}
		f := &Follower{World: world, Names: NewNames(world), Tap: tap}
		var b strings.Builder
		for _, wish := range []Wish{{}, {All: true}, {Either: "web"}, {Either: "shop"}, {Either: "vault"}} {
			table, err := f.Now(t.Context(), wish)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString("linkspan flows " + wish.Either + map[bool]string{true: "--all"}[wish.All] + "\n")
			if err := table.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			b.WriteString("\n")
		}
		golden.Compare(t, "testdata/flows.txt", b.String())
	})
}

func TestFlowsWish(t *testing.T) {
	w, k, world := made()
	f := &Follower{World: world, Names: NewNames(world), Tap: &fakeTap{}}
	for _, c := range []struct {
		of    string
		class error
		want  string
	}{
		{"wab", cnm.ErrNotFound, "did you mean web"},
		{"shup", cnm.ErrNotFound, "did you mean shop"},
		{"old", cnm.ErrConflict, "linkspan start old"},
		{"mon", cnm.ErrConflict, "linkspan flows --all"},
	} {
		if _, err := f.Now(t.Context(), Wish{Either: c.of}); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.of, err)
		}
		if err := f.Follow(t.Context(), Wish{Either: c.of}, nil, nil); !errors.Is(err, c.class) {
			t.Errorf("followed %s: %v", c.of, err)
		}
	}
	k.err = syscall.EPERM
	if _, err := f.Now(t.Context(), Wish{}); !errors.Is(err, syscall.EPERM) {
		t.Errorf("%v", err)
	}
	_ = w
}

// TestFollow: accepted flows and dropped packets come in one stream, of the wished
// container only, and it ends with its context or its reader.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, world := made()
		tap := &fakeTap{}
		names := NewNames(world)
		drops := NewDrops(DropsConfig{Names: names, Tap: tap, Log: slog.New(slog.DiscardHandler)})
		f := &Follower{World: world, Names: names, Tap: tap, Drops: drops}
		ctx, stop := context.WithCancel(t.Context())
		var b strings.Builder
		var notes []string
		ready := false
		done := make(chan error)
		go func() {
			done <- f.Follow(ctx, Wish{Either: "web"}, func() { ready = true }, func(l Line) error {
				if l.Note != "" {
					notes = append(notes, l.Note)
					return nil
				}
				return l.Flow.WriteLine(&b)
			})
		}()
		synctest.Wait()
		if !ready {
			t.Fatal("it is not ready")
		}
		var batch []reading.FlowChange
		for i, e := range entries(w) {
			batch = append(batch, reading.FlowChange{Kind: []string{reading.FlowNew, reading.FlowUpdate, reading.FlowDestroy}[i%3], Time: noon, Flow: e})
		}
		tap.changes(batch, 0)
		tap.changes(nil, 1)
		synctest.Wait()
		drops.take(ctx, samples(w), 0)
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(notes) != 1 {
			t.Errorf("%q", notes)
		}
		golden.Compare(t, "testdata/follow.txt", b.String())

		bad := errors.New("the reader went")
		go func() { done <- f.Follow(t.Context(), Wish{All: true}, nil, func(Line) error { return bad }) }()
		synctest.Wait()
		tap.changes(batch, 0)
		if err := <-done; !errors.Is(err, bad) {
			t.Errorf("%v", err)
		}
		tap.fails = []error{syscall.EPERM}
		if err := f.Follow(t.Context(), Wish{}, nil, nil); !errors.Is(err, syscall.EPERM) {
			t.Errorf("%v", err)
		}
	})
}

func TestCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _ := made()
		tap := &fakeTap{fails: []error{syscall.ENOBUFS}}
		c := NewCounter(tap, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() { c.Run(ctx); close(done) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		all := entries(w)
		for range 3 {
			tap.changes([]reading.FlowChange{{Kind: reading.FlowNew, Flow: all[0]}, {Kind: reading.FlowNew, Flow: all[1]}, {Kind: reading.FlowDestroy, Flow: all[0]}}, 0)
		}
		tap.changes(nil, 1)
		got, lost := c.Counts()
		if want := map[PortFlow]uint64{{"tcp", 8080, ap(addr(w, "web", 0) + ":80")}: 3}; !maps.Equal(got, want) || lost != 1 {
			t.Errorf("%v, lost %d", got, lost)
		}
		stop()
		<-done
	})
}
