package network

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/dataplane"
	"linkspan/events"
	"linkspan/internal/lab"
)

// watched is a world whose repair runs, and what it says. Call it inside of synctest,
// where the clock moves only while all wait.
func watched(t *testing.T, adjust ...func(*world)) (*world, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	w := newWorld(t, append([]func(*world){func(w *world) {
		w.cfg.ObserveTouched = w.kernel.ObserveTouched
		w.cfg.CheckEvery, w.cfg.ID = 5*time.Minute, "daemon-id"
		w.cfg.Log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == "time" || a.Key == "took" {
				return slog.Attr{}
			}
			return a
		}}))
	}}, adjust...)...)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	news := w.kernel.Watch()
	go func() { defer close(done); w.Repair(ctx, news) }()
	t.Cleanup(func() { stop(); <-done })
	return w, &said
}

// repairs are the events of repairs since the last call.
func repairs(ch <-chan events.Event) (out []events.Event) {
	for {
		select {
		case e := <-ch:
			if e.Action == "repair" {
				out = append(out, e)
			}
		default:
			return out
		}
	}
}

// Whatever somebody takes away or changes is as before after a moment, with a line in
// the log and an event that say what it was and whose it is.
func TestRepairTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, said := watched(t)
		s := w.join(on("a", "bridge", "8080:80"))
		w.join(on("b", "bridge"))
		e := s.Endpoints[0]
		whole := w.things()
		ctx, cancel := context.WithCancel(t.Context())
		_, ch := w.bus.Subscribe(ctx, time.Time{})
		defer cancel()
		veth, _ := w.kernel.State().Get("link " + e.HostIf)
		loose := veth.(dataplane.Veth)
		loose.Master, loose.Hairpin = "", false
		small := veth.(dataplane.Veth)
		small.MTU = 1300
		moved := veth.(dataplane.Veth)
		moved.PeerNS = ""
		bridge, _ := w.kernel.State().Get("link docker0")
		for _, c := range []struct {
			name, lose    string
			put           dataplane.Object
			kind, id      string
			was, is, line string
		}{
			{name: "table", lose: "table inet linkspan_00000a", kind: "daemon", id: "daemon-id", was: "gone", is: "page ", line: `owner=host reason="the firewall`},
			{name: "wire", lose: "link " + e.HostIf, kind: "container", id: "a", was: "gone", is: "veth mtu 1500 master docker0", line: `owner="endpoint name-of-a" reason="the wire from`},
			{name: "wire loose", put: loose, kind: "container", id: "a", was: "veth mtu 1500 peer", is: "master docker0", line: "level=INFO msg=\"put right\" object=\"link veth"},
			{name: "wire's MTU", put: small, kind: "container", id: "a", was: "veth mtu 1300", is: "veth mtu 1500"},
			{name: "other end moved away", put: moved, kind: "container", id: "a", was: "gone", is: "veth mtu 1500"},
			{name: "wire down", lose: "up " + e.HostIf, kind: "container", id: "a", was: "gone", is: "there"},
			{name: "bridge", lose: "link docker0", kind: "network", id: "", was: "gone", is: "bridge mtu 1500", line: `owner="network bridge"`},
			{name: "bridge's address", lose: "addr docker0 172.17.0.1/16", kind: "network", was: "gone", is: "there"},
			{name: "its route", put: dataplane.Addr{Link: "docker0", Prefix: pfx("172.17.0.1/16"), Stranded: true}, kind: "network", was: "without the route to its subnet", is: "there"},
			{name: "bridge down", lose: "up docker0", kind: "network", was: "gone", is: "there"},
			{name: "published port", lose: "element inet linkspan_00000a publish4_any { tcp . 8080 }", kind: "container", id: "a", was: "gone", is: "172.17.0.2 . 80", line: `owner="port name-of-a"`},
			{name: "another's element", put: dataplane.EgressElement(dataplane.Meta{}, "linkspan_00000a", "eth9"), kind: "daemon", was: "there, and declared by nobody", is: "gone"},
			{name: "another's address", put: dataplane.Addr{Link: "docker0", Prefix: pfx("10.0.0.1/8")}, kind: "daemon", was: "there, and declared by nobody", is: "gone"},
			{name: "forwarding", put: dataplane.Sysctl{Name: "net/ipv4/ip_forward", Value: "0"}, kind: "daemon", was: "= 0", is: "= 1"},
			{name: "route_localnet", put: dataplane.Sysctl{Name: "net/ipv4/conf/docker0/route_localnet", Value: "0"}, kind: "network", was: "= 0", is: "= 1"},
		} {
			said.Reset()
			if c.lose != "" {
				w.kernel.Lose(c.lose)
			} else {
				w.kernel.Meddle(c.put)
			}
			synctest.Wait()
			time.Sleep(20 * time.Millisecond) // of synctest's clock: the moment of quiet
			synctest.Wait()
			if d := lab.Differ(whole, w.things()); d != "" && c.name != "forwarding" {
				t.Fatalf("%s: not repaired:\n%s\n%s", c.name, d, said)
			}
			got := repairs(ch)
			found := false
			for _, e := range got {
				found = found || e.Type == c.kind && (c.id == "" || e.ID == c.id) && strings.Contains(e.Attributes["was"], c.was) && strings.Contains(e.Attributes["is"], c.is)
			}
			if !found {
				t.Errorf("%s: events %+v", c.name, got)
			}
			if !strings.Contains(said.String(), c.line) || !strings.Contains(said.String(), "put right") {
				t.Errorf("%s: log\n%s", c.name, said)
			}
			if c.name == "forwarding" { // the host's own wish is now known, and guarded
				whole = w.things()
			}
			time.Sleep(time.Minute) // so that it is no fight
		}
		_ = bridge
		if st := w.RepairStats(); st.Repairs["link"] < 5 || st.Looks < 15 || st.BackOffs != 0 || st.Objects < 20 {
			t.Errorf("%+v", st)
		}
	})
}

// What we do ourselves, and what is inside of sandboxes, is not touched.
func TestRepairLeavesInsides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, said := watched(t)
		s := w.join(on("a", "bridge", "8080:80"))
		in := s.ID[:12] + ":"
		w.kernel.Lose("route " + in + "eth0 0.0.0.0/0")
		w.kernel.Meddle(dataplane.Addr{NS: s.Path, Link: "eth0", Prefix: pfx("10.9.9.9/24")})
		mine := w.things()
		w.kernel.Lose("up " + s.Endpoints[0].HostIf) // the host's end goes down: the inside stays
		time.Sleep(time.Second)
		synctest.Wait()
		if d := lab.Differ(mine, w.things()); d != "" {
			t.Errorf("changed:\n%s", d)
		}
		if strings.Contains(said.String(), in) { // not "eth0": every sixteenth host end is called veth0…
			t.Errorf("said:\n%s", said)
		}
	})
}

// Another program that undoes every repair: it is left alone for longer and longer, and
// said so; when it gives up, all is put right.
func TestFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, said := watched(t)
		w.join(on("a", "bridge"))
		whole := w.things()
		ctx, cancel := context.WithCancel(t.Context())
		_, ch := w.bus.Subscribe(ctx, time.Time{})
		defer cancel()
		const key = "link docker0"
		begin := time.Now()
		undone := 0
		for time.Since(begin) < 10*time.Minute {
			if w.has(key) {
				w.kernel.Lose(key)
				undone++
			}
			time.Sleep(50 * time.Millisecond)
		}
		synctest.Wait()
		// 3 at once, then after 250 ms, 500 ms, … up to a minute: 3 + 9 + 8.
		if undone < 12 || undone > 30 {
			t.Errorf("repaired %d times within 10 minutes", undone)
		}
		if n := strings.Count(said.String(), "keeps undoing this: if it happens again, it is left so for 1m0s\" object=\"link docker0\""); n < 4 || n > 12 {
			t.Errorf("said so %d times:\n%s", n, said)
		}
		backed := 0
		for _, e := range repairs(ch) {
			if e.Attributes["backoff"] != "" {
				backed++
			}
		}
		st := w.RepairStats()
		if backed == 0 || st.BackOffs == 0 || st.BackingOff == 0 {
			t.Errorf("%d events, %+v", backed, st)
		}
		// What is not fought about is repaired at once meanwhile.
		if w.kernel.Lose("table inet linkspan_00000a"); true {
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
			if !w.has("table inet linkspan_00000a") {
				t.Error("another object has to wait too")
			}
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if d := lab.Differ(whole, w.things()); d != "" {
			t.Errorf("given up:\n%s", d)
		}
	})
}

// What fails is said and tried again.
func TestRepairFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, said := watched(t)
		w.join(on("a", "bridge"))
		whole := w.things()
		w.kernel.FailKey("link docker0", errBoom)
		w.kernel.Lose("link docker0")
		time.Sleep(time.Second)
		synctest.Wait()
		if !strings.Contains(said.String(), "could not be put right; tried again in 250ms") || !strings.Contains(said.String(), "boom") || w.has("link docker0") {
			t.Errorf("said:\n%s", said)
		}
		if n := strings.Count(said.String(), "could not be put right"); n > 8 {
			t.Errorf("said %d times", n)
		}
		w.kernel.FailKey("link docker0", nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if d := lab.Differ(whole, w.things()); d != "" {
			t.Errorf("not tried again:\n%s\n%s", d, said)
		}
		if st := w.RepairStats(); st.Failures["link"] == 0 || st.Repairs["link"] == 0 {
			t.Errorf("%+v", st)
		}
	})
}

// News can be lost: the whole host is looked at now and then, and when the kernel says
// that it lost some.
func TestFullCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := watched(t)
		s := w.join(on("a", "bridge", "8080:80"))
		whole := w.things()
		w.kernel.Forget("netns "+s.Path, "link docker0", "element inet linkspan_00000a publish4_any { tcp . 8080 }")
		time.Sleep(time.Second)
		synctest.Wait()
		if w.things() == whole {
			t.Fatal("it was heard of")
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if d := lab.Differ(whole, w.things()); d != "" {
			t.Errorf("not found by the full check:\n%s", d)
		}
		if st := w.RepairStats(); st.Checks == 0 || st.LastCheck.IsZero() {
			t.Errorf("%+v", st)
		}
		w.kernel.Forget("link docker0")
		w.kernel.Lost()
		time.Sleep(time.Second)
		synctest.Wait()
		if d := lab.Differ(whole, w.things()); d != "" {
			t.Errorf("not found when news was lost:\n%s", d)
		}
	})
}
