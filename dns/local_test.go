package dns

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/internal/golden"

	mdns "github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestStories: testdata/*.txtar hold a state and what is asked of it. A line of
// "asks" is `VIEW NAME TYPE [CLASS] [bits]`; bits are edns=SIZE, do, cd, tcp, norec,
// hex (print the wire). What is forwarded prints as such. Lines that begin with
// "set ZONE", "remove ZONE" or "whole ZONE" change names on the way.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := story(t, part(t, a, "state"), part(t, a, "asks"))
			if golden.Update() {
				for i := range a.Files {
					if a.Files[i].Name == "answers" {
						a.Files[i].Data = []byte(got)
					}
				}
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := part(t, a, "answers"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func part(t *testing.T, a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	t.Fatalf("no part %s", name)
	return ""
}

func story(t *testing.T, state, asks string) string {
	var st State
	if err := json.Unmarshal([]byte(state), &st); err != nil {
		t.Fatal(err)
	}
	s := NewServer(Config{Log: quiet(), ResolvConf: os.DevNull})
	for id, records := range st.Zones {
		s.SetNames(id, records, true)
	}
	for _, v := range st.Views {
		n := &view{server: s, id: v.Sandbox}
		n.data.Store(newViewData(v, s.seed, s.zone, s.host))
		s.views[v.Sandbox] = n
	}
	var b strings.Builder
	for line := range strings.Lines(asks) {
		line = strings.TrimSpace(line)
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "#":
			fmt.Fprintln(&b, line)
			continue
		case f[0] == "set" || f[0] == "whole":
			var r []Record
			if err := json.Unmarshal([]byte(strings.Join(f[2:], " ")), &r); err != nil {
				t.Fatal(line, err)
			}
			s.SetNames(f[1], r, f[0] == "whole")
			fmt.Fprintln(&b, line)
			continue
		case f[0] == "remove":
			s.RemoveNames(f[1], f[2:])
			fmt.Fprintln(&b, line)
			continue
		}
		m, tcp, wire := question(t, f[1:])
		pkt, err := m.Pack()
		if err != nil {
			t.Fatal(line, err)
		}
		fmt.Fprintf(&b, "%s\n", line)
		var q query
		if code := q.parse(pkt, tcp); code != 0 {
			fmt.Fprintf(&b, "\tparse: %d\n", code)
			continue
		}
		out, done := s.views[f[0]].data.Load().local(&q, nil)
		if !done {
			fmt.Fprintf(&b, "\tforwarded\n")
			continue
		}
		if len(out) > q.limit {
			t.Errorf("%s: %d bytes, the client takes %d", line, len(out), q.limit)
		}
		r := new(mdns.Msg)
		if err := r.Unpack(out); err != nil {
			t.Fatalf("%s: %v\n%x", line, err, out)
		}
		if r.Id != m.Id || r.Question[0] != m.Question[0] {
			t.Errorf("%s: the answer is to another question: %v", line, r)
		}
		for l := range strings.Lines(show(r)) {
			b.WriteString("\t" + l)
		}
		if wire {
			for l := range strings.Lines(hex.Dump(out)) {
				b.WriteString("\t" + l)
			}
		}
	}
	return b.String()
}

// question makes a message of a line's words.
func question(t testing.TB, f []string) (m *mdns.Msg, tcp, wire bool) {
	m = &mdns.Msg{MsgHdr: mdns.MsgHdr{Id: 0x1234, RecursionDesired: true}}
	q := mdns.Question{Name: mdns.Fqdn(f[0]), Qtype: mdns.TypeA, Qclass: mdns.ClassINET}
	size, do := 0, false
	for _, w := range f[1:] {
		if n, ok := mdns.StringToType[w]; ok {
			q.Qtype = n
			continue
		}
		switch w {
		case "CH":
			q.Qclass = mdns.ClassCHAOS
		case "do":
			do = true
		case "cd":
			m.CheckingDisabled = true
		case "norec":
			m.RecursionDesired = false
		case "tcp":
			tcp = true
		case "hex":
			wire = true
		default:
			if _, err := fmt.Sscanf(w, "edns=%d", &size); err != nil {
				t.Fatalf("what is %q?", w)
			}
		}
	}
	m.Question = []mdns.Question{q}
	if size > 0 || do {
		m.SetEdns0(uint16(size), do)
	}
	return m, tcp, wire
}

// show prints an answer as lines: the code and bits, and the records.
func show(r *mdns.Msg) string {
	bits := []string{mdns.RcodeToString[r.Rcode]}
	for _, b := range []struct {
		on   bool
		name string
	}{{r.Authoritative, "aa"}, {r.Truncated, "tc"}, {r.RecursionDesired, "rd"}, {r.RecursionAvailable, "ra"}, {r.AuthenticatedData, "ad"}, {r.CheckingDisabled, "cd"}} {
		if b.on {
			bits = append(bits, b.name)
		}
	}
	if o := r.IsEdns0(); o != nil {
		bits = append(bits, fmt.Sprintf("edns=%d", o.UDPSize()))
		if o.Do() {
			bits = append(bits, "do")
		}
		for _, opt := range o.Option {
			bits = append(bits, fmt.Sprintf("%T(%s)", opt, opt.String()))
		}
	}
	var b strings.Builder
	fmt.Fprintln(&b, strings.Join(bits, " "))
	for i, rrs := range [][]mdns.RR{r.Answer, r.Ns, r.Extra} {
		for _, rr := range rrs {
			if rr.Header().Rrtype == mdns.TypeOPT {
				continue
			}
			fmt.Fprintf(&b, "%s%s\n", []string{"", "ns: ", "more: "}[i], strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	return b.String()
}

func TestReverse(t *testing.T) {
	const zeros = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."
	for _, c := range []struct{ name, want string }{
		{"5.0.25.172.in-addr.arpa", "172.25.0.5/32"},
		{"0.0.0.0.in-addr.arpa", "0.0.0.0/32"},
		{"255.255.255.255.in-addr.arpa", "255.255.255.255/32"},
		{"256.0.25.172.in-addr.arpa", "172.25.0.0/24 below"},
		{"05.0.25.172.in-addr.arpa", "172.25.0.0/24 below"},
		{"25.172.in-addr.arpa", "172.25.0.0/16"},
		{"1.5.0.25.172.in-addr.arpa", "172.25.0.5/32 below"},
		{"b._dns-sd._udp.0.25.172.in-addr.arpa", "172.25.0.0/24 below"},
		{"1234.in-addr.arpa", ""},
		{"x.in-addr.arpa", ""},
		{"in-addr.arpa", ""},
		{"5.0.25.172.xin-addr.arpa", ""},
		{"1.0.0." + zeros + "d.f.ip6.arpa", "fd00::1/128"},
		{"B.A.9." + zeros + "E.F.IP6.ARPA", "fe00::9ab/128"},
		{"d.f.ip6.arpa", "fd00::/8"},
		{"5.d.f.ip6.arpa", "fd50::/12"},
		{"lb._dns-sd._udp.d.f.ip6.arpa", "fd00::/8 below"},
		{"g.0.d.f.ip6.arpa", "fd00::/12 below"},
		{"00.d.f.ip6.arpa", "fd00::/8 below"},
		{"x.ip6.arpa", ""},
		{"1.1.0.0." + zeros + "d.f.ip6.arpa", "fd00::1/128 below"},
	} {
		k, ok := key(c.name)
		if !ok {
			t.Errorf("%s is no name", c.name)
			continue
		}
		p, exact, ok := reverse([]byte(k))
		got := ""
		if ok {
			got = p.String()
			if !exact {
				got += " below"
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if strings.HasSuffix(got, "/32") || strings.HasSuffix(got, "/128") {
			if name, err := mdns.ReverseAddr(p.Addr().String()); err != nil || !strings.EqualFold(name, mdns.Fqdn(c.name)) {
				t.Errorf("%s is the name of %v", name, p)
			}
		}
	}
}

func TestWireName(t *testing.T) {
	for _, c := range []struct {
		name, want string
		ok         bool
	}{
		{"db", "\x02db", true},
		{"DB.", "\x02DB", true},
		{"a.b_c-d", "\x01a\x05b_c-d", true},
		{"", "", false}, {".", "", false}, {"a..b", "", false}, {".a", "", false},
		{strings.Repeat("a", 63), "\x3f" + strings.Repeat("a", 63), true},
		{strings.Repeat("a", 64), "", false},
		{strings.Repeat("abcdefg.", 32), "", false},
		{strings.Repeat("abcdefg.", 31), strings.Repeat("\x07abcdefg", 31), true},
	} {
		if got, ok := wireName(c.name); got != c.want || ok != c.ok {
			t.Errorf("%q: %q %v", c.name, got, ok)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct{ name, suffix, want string }{
		{"db.shop", "shop", "db"},
		{"a.db.shop", "shop", "a.db"},
		{"a.db.shop", "db.shop", "a"},
		{"shop", "shop", ""},
		{"db.workshop", "shop", ""},
		{"db", "shop", ""},
	} {
		name, _ := key(c.name)
		suffix, _ := key(c.suffix)
		want, _ := key(c.want)
		got, ok := cut([]byte(name), suffix)
		if string(got) != want || ok != (c.want != "") {
			t.Errorf("%s less %s: %q %v", c.name, c.suffix, got, ok)
		}
	}
	// What looks like the suffix but begins within a label: 4 bytes of a label that
	// hold a length and three letters.
	if got, ok := cut([]byte("\x06ab\x03cde\x03cde"), "\x03cde\x03cde"); ok {
		t.Errorf("cut within a label: %q", got)
	}
}
