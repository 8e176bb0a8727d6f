package ops

import (
	"strings"
	"testing"
	"time"

	"linkspan/diagnose/doctor"
)

// TestDoctor: a healthy host has nothing worse than notes; what is then broken is
// found, the cure mends it, and it is not found any more.
func TestDoctor(t *testing.T) {
	w := shared(t)
	w.shop()
	report, before := w.examined()
	if len(report.Unseen) != 0 || report.Daemon == "" || len(report.Findings) < 20 {
		t.Errorf("%+v", report)
	}
	for _, f := range report.Findings {
		if f.Severity == doctor.Problem {
			t.Errorf("a healthy host has a problem: %+v", f)
		}
	}
	for _, c := range []struct {
		name  string
		do    [][]string
		code  string
		words string
		undo  [][]string // besides the cure
		mends bool       // the cure is run as it is, and is enough
	}{
		{name: "forwarding off", do: [][]string{{"sysctl", "-qw", "net.ipv4.ip_forward=0"}}, code: "forwarding-off", words: "linkspan reconcile"},
		{name: "a firewall", do: [][]string{{"nft", "add", "table", "inet", "mine"}, {"nft", "add", "chain", "inet", "mine", "guard", "{ type filter hook forward priority 10; policy drop; }"}},
			code: "firewall-drops", words: "nft insert rule inet mine guard", mends: true, undo: [][]string{{"nft", "delete", "table", "inet", "mine"}}},
		{name: "a route over a network", do: [][]string{{"ip", "route", "add", "172.18.9.0/24", "dev", "wan0"}}, code: "route-overlap", words: "172.18.9.0/24 (wan0)", undo: [][]string{{"ip", "route", "del", "172.18.9.0/24", "dev", "wan0"}}},
		{name: "a container's address on the host", do: [][]string{{"ip", "addr", "add", "172.18.0.2/32", "dev", "wan0"}}, code: "address-twice", words: "ip addr del 172.18.0.2/32 dev wan0", mends: true},
		{name: "a smaller way out", do: [][]string{{"ip", "link", "set", "wan0", "mtu", "1400"}, {"ip", "route", "add", "default", "via", "192.168.99.50"}}, code: "mtu", words: "1400", undo: [][]string{{"ip", "route", "del", "default"}, {"ip", "link", "set", "wan0", "mtu", "1500"}}},
		{name: "our page gone", do: [][]string{{"nft", "flush", "ruleset"}}, code: "difference", words: "linkspan reconcile"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "a firewall" {
				w.Host.Run("ip", "route", "add", "default", "via", "192.168.99.50")
				defer w.Host.Run("ip", "route", "del", "default")
			}
			for _, cmd := range c.do {
				w.Host.Run(cmd...)
			}
			_, found := w.examined()
			f, ok := found[c.code]
			if !ok || !strings.Contains(f.What+" "+f.Why+" "+f.Cure, c.words) {
				t.Errorf("%s: %+v", c.code, found)
			}
			switch {
			case f.Cure == "linkspan reconcile":
				if r := w.Linkspan("reconcile"); r.Code != 0 {
					t.Errorf("the cure: %d %s%s", r.Code, r.Stdout, r.Stderr)
				}
			case c.mends:
				w.Host.Run("sh", "-c", f.Cure)
			}
			if !c.mends {
				w.undo(c.undo)
			}
			w.Until(20*time.Second, "after the cure it is well", func() bool {
				_, now := w.examined()
				return now[c.code].Code == "" || before[c.code].Code != ""
			})
			if c.mends {
				w.undo(c.undo)
			}
		})
	}
}

// TestDoctorAlone: without a daemon it looks at the host, says what it could not see
// and how to start one, and exits by 1.
func TestDoctorAlone(t *testing.T) {
	w := shared(t)
	w.Stop()
	report, _ := w.examined()
	if s := strings.Join(report.Unseen, "\n"); !strings.Contains(s, "linkspan daemon") || !strings.Contains(s, "keeper") || report.Daemon != "" || len(report.Findings) < 8 {
		t.Errorf("%+v", report)
	}
	if r := w.Linkspan("doctor"); r.Code != 1 || !strings.Contains(r.Stdout, "not looked at:") {
		t.Errorf("%d %s", r.Code, r.Stdout)
	}
	w.Run()
	if r := w.Linkspan("doctor", "nothing"); r.Code != 1 || !strings.Contains(r.Stderr, "takes no argument") {
		t.Errorf("%d %s", r.Code, r.Stderr)
	}
}

func (w *world) undo(commands [][]string) {
	for _, cmd := range commands {
		w.Host.Run(cmd...)
	}
}
