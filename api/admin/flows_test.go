package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/diagnose/capture"
	"linkspan/diagnose/flows"
	"linkspan/internal/worldtest"
)

// fakeFlows is both sources; what it was asked is noted.
type fakeFlows struct {
	wish  flows.Wish
	match flows.Match
	of    string
	err   error // of the question
	late  error // of the stream, after its first line
	ended chan bool
}

func (f *fakeFlows) Now(_ context.Context, w flows.Wish) (*flows.Table, error) {
	f.wish = w
	return &flows.Table{Flows: []flows.Flow{{Proto: "tcp", As: netip.MustParseAddrPort("10.0.0.1:5")}}}, f.err
}

func (f *fakeFlows) Follow(ctx context.Context, w flows.Wish, ready func(), fn func(flows.Line) error) error {
	if f.wish = w; f.err != nil {
		return f.err
	}
	ready()
	if err := fn(flows.Line{Flow: &flows.Flow{Event: "new", Proto: "tcp"}}); err != nil || f.late != nil {
		return errors.Join(err, f.late)
	}
	<-ctx.Done()
	close(f.ended)
	return nil
}

type fakeDrops struct{ *fakeFlows }

func (f fakeDrops) Match(of string) (flows.Match, error) {
	f.of = of
	return flows.Match{Network: of}, f.err
}

func (f fakeDrops) List(m flows.Match) *flows.List {
	f.match = m
	return &flows.List{Drops: []flows.Drop{{Rule: "isolated"}}}
}

func (f fakeDrops) Follow(ctx context.Context, m flows.Match, fn func(flows.Drop, int) error) error {
	f.match = m
	if err := fn(flows.Drop{Rule: "isolated"}, 3); err != nil {
		return err
	}
	<-ctx.Done()
	close(f.ended)
	return nil
}

// TestStreams: a stream's lines come at once, it ends on both sides with its client, and
// errors are told before it and in it.
func TestStreams(t *testing.T) {
	f := &fakeFlows{ended: make(chan bool)}
	c, _ := daemon(t, Config{Doors: append(Flows(f), Drops(fakeDrops{f})...)})
	wish := flows.Wish{Either: "web & more", All: true}
	table, err := c.Flows(t.Context(), wish)
	if err != nil || f.wish != wish || len(table.Flows) != 1 || table.Flows[0].As.Port() != 5 {
		t.Errorf("%+v, %v, asked %+v", table, err, f.wish)
	}
	ended := func() {
		t.Helper()
		select {
		case <-f.ended:
			f.ended = make(chan bool)
		case <-time.After(10 * time.Second):
			t.Fatal("the daemon's side goes on")
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	n := 0
	if err := c.FollowFlows(ctx, wish, func(l flows.Line) error { n++; stop(); return nil }); err != nil || n != 1 {
		t.Errorf("%d lines, %v", n, err)
	}
	ended()
	enough := errors.New("enough")
	if err := c.FollowFlows(t.Context(), wish, func(flows.Line) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
	ended()
	f.late = errors.New("the kernel went away")
	if err := c.FollowFlows(t.Context(), wish, func(flows.Line) error { return nil }); err == nil || err.Error() != "the kernel went away" {
		t.Errorf("%v", err)
	}

	since := time.Unix(0, 1_700_000_000_123_456_789)
	l, err := c.Drops(t.Context(), "shop", flows.Match{Since: since, Rule: "isolated"})
	if err != nil || len(l.Drops) != 1 || f.of != "shop" || f.match.Network != "shop" || !f.match.Since.Equal(since) || f.match.Rule != "isolated" {
		t.Errorf("%+v, %v, %+v", l, err, f.match)
	}
	ctx, stop = context.WithCancel(t.Context())
	if err := c.FollowDrops(ctx, "", flows.Match{}, func(d FollowedDrop) error {
		if d.Rule != "isolated" || d.Missed != 3 {
			t.Errorf("%+v", d)
		}
		stop()
		return nil
	}); err != nil {
		t.Error(err)
	}
	ended()

	f.err = cnm.NotFound("there is no container %q", "wab")
	for what, err := range map[string]error{
		"flows":        func() error { _, err := c.Flows(t.Context(), wish); return err }(),
		"follow flows": c.FollowFlows(t.Context(), wish, nil),
		"drops":        func() error { _, err := c.Drops(t.Context(), "wab", flows.Match{}); return err }(),
		"follow drops": c.FollowDrops(t.Context(), "wab", flows.Match{}, nil),
	} {
		if err == nil || !strings.Contains(err.Error(), `there is no container "wab"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.err = nil
	var none struct{}
	if err := c.Ask(t.Context(), http.MethodGet, "drops?since=yesterday", nil, &none); err == nil || !strings.Contains(err.Error(), "since") {
		t.Errorf("%v", err)
	}
}

// tapOf gives one frame again and again, until it ends.
type tapOf struct{ frame []byte }

func (tapOf) Log(context.Context, string, uint16, func([]reading.Logged, int)) error { return nil }
func (tapOf) Changes(ctx context.Context, _ string, _ []string, _ func([]reading.FlowChange, int)) error {
	<-ctx.Done()
	return nil
}
func (tapOf) Connections(context.Context, string) ([]reading.Connection, error) { return nil, nil }
func (f tapOf) Capture(ctx context.Context, ns string, _ reading.CaptureWish, started func(), fn func([]reading.Frame)) (n reading.CaptureCount, err error) {
	started()
	for ctx.Err() == nil {
		fn([]reading.Frame{{Time: time.Now(), Data: f.frame, Length: len(f.frame)}})
		n.Received++
		time.Sleep(5 * time.Millisecond)
	}
	n.Dropped = 2
	return n, nil
}

// TestCaptureStream: a capture ends in order when its client has enough, and tells what
// was lost.
func TestCaptureStream(t *testing.T) {
	world := worldtest.New().Diagnose()
	frame := make([]byte, 60)
	copy(frame[12:], "\x08\x00\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06")
	c, url := daemon(t, Config{Doors: Capture(capture.Source{World: world, Names: flows.NewNames(world), Tap: tapOf{frame}, Version: "1"})})
	ctx, stop := context.WithCancel(t.Context())
	var b bytes.Buffer
	s, err := c.Capture(ctx, capture.Wish{Container: "web", Side: capture.Inside, Snap: 96}, func() { time.AfterFunc(time.Second, stop) }, &b)
	if err != nil || !s.Whole || s.Packets == 0 || s.Dropped != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	again, err := capture.Copy(io.Discard, &b)
	if err != nil || !again.Whole || again.Packets != s.Packets {
		t.Errorf("written: %+v, %v", again, err)
	}
	if s, err := c.Capture(t.Context(), capture.Wish{Container: "web", Side: capture.Inside, Count: 3}, nil, &b); err != nil || s.Packets != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := c.Capture(t.Context(), capture.Wish{Container: "web", Side: capture.Inside, For: 500 * time.Millisecond}, nil, &b); err != nil || !s.Whole {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.Capture(t.Context(), capture.Wish{Container: "wab"}, nil, &b); err == nil || !strings.Contains(err.Error(), "did you mean web") {
		t.Errorf("%v", err)
	}
	for query, want := range map[string]string{"container=web&count=x": "count", "container=web&snap=1e9": "snap", "container=web&for=soon": "like 30s"} {
		resp, err := http.Get(url + Prefix + "capture?" + query)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), want) {
			t.Errorf("%s: %d %s", query, resp.StatusCode, text)
		}
	}
	var none struct{}
	if err := c.Ask(t.Context(), http.MethodPost, "capture/end?id=gone", nil, &none); err == nil || !strings.Contains(err.Error(), "it has ended") {
		t.Errorf("%v", err)
	}
	// A client that is cut off ends it too: the server's close waits for its requests.
	ctx, stop = context.WithCancel(t.Context())
	body, err := c.Stream(ctx, http.MethodGet, "capture?container=web&side=inside", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := body.Read(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	stop()
	body.Close()
}
