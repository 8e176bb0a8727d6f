package dns

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// pkt makes bytes of hex with blanks, "name:" for a name on the wire.
func pkt(t testing.TB, s string) []byte {
	t.Helper()
	var b []byte
	for w := range strings.FieldsSeq(s) {
		if name, ok := strings.CutPrefix(w, "name:"); ok {
			n, ok := wireName(name)
			if !ok {
				t.Fatal(name)
			}
			b = append(append(b, n...), 0)
			continue
		}
		h, err := hex.DecodeString(w)
		if err != nil {
			t.Fatal(w, err)
		}
		b = append(b, h...)
	}
	return b
}

func TestParse(t *testing.T) {
	long := strings.Repeat("abcdefg.", 31) + "abcde" // 255 with the root
	for _, c := range []struct {
		name, msg string
		code      int
	}{
		{"empty", "", drop},
		{"short", "1234 0100 0001 0000 0000 00", drop},
		{"header only", "1234 0100 0000 0000 0000 0000", rcodeFormat},
		{"a question", "1234 0100 0001 0000 0000 0000 name:Db.X 0001 0001", 0},
		{"the root", "1234 0100 0001 0000 0000 0000 00 0002 0001", 0},
		{"an answer", "1234 8100 0001 0000 0000 0000 name:db 0001 0001", drop},
		{"a notification", "1234 2100 0001 0000 0000 0000 name:db 0001 0001", rcodeNotImp},
		{"an update", "1234 2800 0001 0000 0000 0000 name:db 0001 0001", rcodeNotImp},
		{"two questions", "1234 0100 0002 0000 0000 0000 name:db 0001 0001 name:db 001c 0001", rcodeFormat},
		{"with an answer", "1234 0100 0001 0001 0000 0000 name:db 0001 0001", rcodeFormat},
		{"with an authority", "1234 0100 0001 0000 0001 0000 name:db 0001 0001", rcodeFormat},
		{"no question there", "1234 0100 0001 0000 0000 0000", rcodeFormat},
		{"name ends early", "1234 0100 0001 0000 0000 0000 026462", rcodeFormat},
		{"label ends early", "1234 0100 0001 0000 0000 0000 0564", rcodeFormat},
		{"no type", "1234 0100 0001 0000 0000 0000 name:db 0001", rcodeFormat},
		{"a pointer", "1234 0100 0001 0000 0000 0000 c00c 0001 0001", rcodeFormat},
		{"a label of an unknown kind", "1234 0100 0001 0000 0000 0000 4164 00 0001 0001", rcodeFormat},
		{"the longest name", "1234 0100 0001 0000 0000 0000 name:" + long[:253] + " 0001 0001", 0},
		{"too long a name", "1234 0100 0001 0000 0000 0000 " + strings.Repeat("0761626364656667", 32) + " 00 0001 0001", rcodeFormat},
		{"more than it says", "1234 0100 0001 0000 0000 0000 name:db 0001 0001 ffffff", 0},
		{"EDNS", "1234 0100 0001 0000 0000 0001 name:db 0001 0001 00 0029 1000 00008000 0000", 0},
		{"EDNS with options", "1234 0100 0001 0000 0000 0001 name:db 0001 0001 00 0029 1000 00008000 000c 000a00081122334455667788", 0},
		{"EDNS that ends early", "1234 0100 0001 0000 0000 0001 name:db 0001 0001 00 0029 1000 00008000 000c 000a", rcodeFormat},
		{"EDNS that is not there", "1234 0100 0001 0000 0000 0001 name:db 0001 0001", rcodeFormat},
		{"EDNS twice", "1234 0100 0001 0000 0000 0002 name:db 0001 0001 00 0029 1000 00008000 0000 00 0029 1000 00008000 0000", rcodeFormat},
		{"EDNS not at the root", "1234 0100 0001 0000 0000 0001 name:db 0001 0001 name:x 0029 1000 00008000 0000", rcodeFormat},
		{"EDNS of another version", "1234 0100 0001 0000 0000 0001 name:db 0001 0001 00 0029 1000 00010000 0000", rcodeBadVers},
		{"signed", "1234 0100 0001 0000 0000 0001 name:db 0001 0001 name:key 00fa 00ff 00000000 0002 aabb", 0},
	} {
		var q query
		msg := pkt(t, c.msg)
		if got := q.parse(msg, false); got != c.code {
			t.Errorf("%s: %d, want %d", c.name, got, c.code)
		} else if got > 0 {
			// Whatever is said to it can be read.
			out := q.refuse(nil, got)
			r := new(mdns.Msg)
			if err := r.Unpack(out); err != nil || r.Id != 0x1234 || !r.Response || r.Rcode != got {
				t.Errorf("%s: the answer is %x, %v, %v", c.name, out, r, err)
			}
		}
		if c.name == "a question" && string(q.name) != "\x02db\x01x" {
			t.Errorf("%s: %q", c.name, q.name)
		}
		if strings.HasPrefix(c.name, "EDNS with") && (!q.edns || !q.do || q.limit != 4096) {
			t.Errorf("%s: %+v", c.name, q)
		}
	}
}

// TestLimits: what a client takes.
func TestLimits(t *testing.T) {
	for size, want := range map[string]int{"0000": 512, "0200": 512, "04d0": 1232, "1000": 4096, "ffff": 4096} {
		msg := pkt(t, "1234 0100 0001 0000 0000 0001 name:db 0001 0001 00 0029 "+size+" 00000000 0000")
		var q query
		if q.parse(msg, false); q.limit != want {
			t.Errorf("%s: %d, want %d", size, q.limit, want)
		}
		if q.parse(msg, true); q.limit != maxTCP {
			t.Errorf("%s over TCP: %d", size, q.limit)
		}
	}
}

// TestReadMessage: what upstreams may send.
func TestReadMessage(t *testing.T) {
	const head = "name:a.b 0001 0001"
	for _, c := range []struct {
		name, msg string
		bad       bool
		left      int // length without OPT; 0: all
	}{
		{"nothing", "1234 8180 0001 0000 0000 0000 " + head, false, 0},
		{"one", "1234 8180 0001 0001 0000 0000 " + head + " c00c 0001 0001 0000003c 0004 01020304", false, 0},
		{"less than it says", "1234 8180 0001 0002 0000 0000 " + head + " c00c 0001 0001 0000003c 0004 01020304", true, 0},
		{"record ends early", "1234 8180 0001 0001 0000 0000 " + head + " c00c 0001 0001 0000003c 0004 0102", true, 0},
		{"cut within a record, and says so", "1234 8380 0001 0001 0000 0000 " + head + " c00c 0001 0001 0000003c 0004 0102", false, 21},
		{"name ends early", "1234 8180 0001 0001 0000 0000 " + head + " c0", true, 0},
		{"OPT", "1234 8180 0001 0001 0000 0001 " + head + " c00c 0001 0001 0000003c 0004 01020304 00 0029 04d0 00000000 0000", false, 21 + 16},
		{"OPT, and something after", "1234 8180 0001 0001 0000 0002 " + head + " c00c 0001 0001 0000003c 0004 01020304 00 0029 04d0 00000000 0000 c00c 0001 0001 0000003c 0004 01020304", false, 21 + 16},
		{"OPT among the answers", "1234 8180 0001 0001 0000 0000 " + head + " 00 0029 04d0 00000000 0000", true, 0},
		{"more than it says", "1234 8180 0001 0000 0000 0000 " + head + " ffff", false, 21},
		{"SOA without numbers", "1234 8183 0001 0000 0001 0000 " + head + " c00c 0006 0001 0000003c 0000", false, 0},
	} {
		msg := pkt(t, c.msg)
		m, err := readMessage(msg, headerLen+9)
		if (err != nil) != c.bad {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		left := c.left
		if left == 0 {
			left = len(msg)
		}
		r := new(mdns.Msg)
		if err := r.Unpack(m.wire); len(m.wire) != left || c.name[:3] != "SOA" && err != nil {
			t.Errorf("%s: %d bytes, want %d; %v\n%x", c.name, len(m.wire), left, err, m.wire)
		}
	}
}

// FuzzParse: no question harms, and what is answered to it can be read by others.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"1234 0100 0001 0000 0000 0000 name:db 0001 0001",
		"1234 0100 0001 0000 0000 0001 name:many 001c 0001 00 0029 1000 00008000 0000",
		"1234 0100 0001 0000 0000 0000 name:_80._tcp.db.net 0021 0001",
		"1234 0100 0001 0000 0000 0000 name:5.0.25.172.in-addr.arpa 000c 0001",
		"1234 0100 0001 0000 0000 0000 name:www.example.org 00ff 0003",
	} {
		f.Add(pkt(f, s), false)
	}
	s := NewServer(Config{Log: quiet(), ResolvConf: os.DevNull})
	records := []Record{{Endpoint: "1", Names: []string{"db", "many", "x.y"}, Addrs: []netip.Addr{netip.MustParseAddr("172.25.0.5"), netip.MustParseAddr("fd00::5")}, Ports: []string{"80/tcp"}}}
	for i := range 40 {
		records = append(records, Record{Endpoint: string(rune('A' + i)), Names: []string{"many"}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}})
	}
	s.SetNames("n", records, true)
	d := newViewData(View{Zones: []string{"n"}, ZoneNames: []string{"net"}, Search: []string{"example.org"}}, s.seed, s.zone, s.host)
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) {
		var q query
		code := q.parse(msg, tcp)
		if code == drop {
			return
		}
		var out []byte
		if code != rcodeSuccess {
			out = q.refuse(nil, code)
		} else {
			var done bool
			if out, done = d.local(&q, nil); !done {
				if len(out) != 0 {
					t.Fatalf("forwarded, and %x", out)
				}
				return
			}
		}
		if len(out) > q.limit || code == 0 && !bytes.Equal(out[headerLen:q.end], msg[headerLen:q.end]) {
			t.Fatalf("%d bytes of %d: %x", len(out), q.limit, out)
		}
		r := new(mdns.Msg)
		if err := r.Unpack(out); err != nil {
			t.Fatalf("%v: %x", err, out)
		}
	})
}

// FuzzAnswer: nothing that a server sends harms, and what goes on to a client fits.
func FuzzAnswer(f *testing.F) {
	for _, a := range []func(*mdns.Msg) *mdns.Msg{says(60, "A 1.2.3.4", "AAAA fd00::1"), code(3, 60, "ns "+soa), tooLong, says(1, "CNAME x.y.", "TXT a b")} {
		b, err := a(new(mdns.Msg).SetQuestion("a.b.", mdns.TypeA)).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(512), 30)
	}
	f.Fuzz(func(t *testing.T, wire []byte, limit uint16, age int) {
		a := &ask{name: []byte("\x01a\x01b"), qtype: 1}
		if len(wire) < 2 || len(wire) > maxTCP {
			return
		}
		sent := a.pack(uint16(wire[0])<<8|uint16(wire[1]), true)[2:]
		readable := new(mdns.Msg).Unpack(bytes.Clone(wire)) == nil
		m, err := a.read(sent, wire)
		if err != nil {
			return
		}
		var q query
		if code := q.parse(sent, false); code != 0 {
			t.Fatal(code)
		}
		q.limit = max(int(limit), plainSize)
		out := m.appendTo(nil, &q, time.Duration(age)*time.Second, 0, &reason{code: reasonStale})
		if len(out) > q.limit {
			t.Fatalf("%d bytes of %d", len(out), q.limit)
		}
		if err := new(mdns.Msg).Unpack(out); err != nil && readable {
			t.Fatalf("%v: %x from %x", err, out, wire)
		}
	})
}
