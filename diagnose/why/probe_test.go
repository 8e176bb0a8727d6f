package why

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// heard is a Prober that hears what it was told.
type heard struct {
	ProbeAnswer
	err   error
	asked *ProbeQuestion
}

func (h heard) Probe(_ context.Context, q ProbeQuestion) (ProbeAnswer, error) {
	if h.asked != nil {
		*h.asked = q
	}
	return h.ProbeAnswer, h.err
}

func TestProbe(t *testing.T) {
	yes, no, refused := ProbeAnswer{Heard: "SYN-ACK", Answered: true}, ProbeAnswer{Heard: "nothing within 300ms"}, ProbeAnswer{Heard: "RST", Refused: true}
	denied := errors.New("permission denied")
	for _, c := range []struct {
		name    string
		make    func(*world)
		to      string
		hears   ProbeAnswer
		verdict Verdict
		code    Code
		agrees  bool
	}{
		{"both yes", func(*world) {}, "db:5432", yes, Reaches, OK, true},
		{"both no", func(w *world) { w.deaf("db") }, "db:5432", refused, Blocked, NotListening, true},
		{"the packet is lost", func(*world) {}, "db:5432", no, Unsure, ProbeDisagrees, false},
		{"the packet arrives", func(w *world) { w.link("/ns/db", "eth0").NoARP = true }, "db:5432", yes, Unsure, ProbeDisagrees, false},
		{"paused: the kernel answers", func(w *world) { w.stopped[2000] = true }, "db:5432", yes, Blocked, NotAccepting, true},
		{"unknown, and it arrives", func(w *world) { w.fails["rules /ns/db"] = denied }, "db:5432", yes, Reaches, OK, true},
		{"unknown, and it is lost", func(w *world) { w.fails["rules /ns/db"] = denied }, "db:5432", no, Blocked, Unknown, true},
		{"UDP need not answer", func(w *world) { w.listen("db", "udp 0.0.0.0:53", 1) }, "db:53/udp", no, Reaches, OK, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			c.make(w)
			var q ProbeQuestion
			a := w.ask(t, "web", c.to, func(o *Options) { o.Probe = heard{c.hears, nil, &q} })
			if a.Verdict != c.verdict || a.Code != c.code || a.Probe == nil || a.Probe.Agrees != c.agrees {
				t.Errorf("%s %s: %s; probe %+v", a.Verdict, a.Code, a.Sentence, a.Probe)
			}
			if q.NS != "/ns/web" || q.Dst.Addr() != addr("172.20.0.3") {
				t.Errorf("asked %+v", q)
			}
			var b strings.Builder
			if a.WriteText(&b); !strings.Contains(b.String(), c.hears.Heard) {
				t.Error(b.String())
			}
		})
	}
	for _, c := range []struct {
		from, to string
		p        heard
		note     string
	}{
		{"outside", "pub:80", heard{}, "on the other machine"},
		{"web", "outside", heard{}, "say whom to send it to"},
		{"web", "db", heard{err: denied}, "no packet could be sent: permission denied"},
	} {
		a := newWorld().ask(t, c.from, c.to, func(o *Options) { o.Probe = c.p })
		if a.Probe != nil || len(a.Notes) == 0 || !strings.Contains(a.Notes[len(a.Notes)-1].Text, c.note) {
			t.Errorf("%s %s: %+v", c.from, c.to, a.Notes)
		}
	}
}
