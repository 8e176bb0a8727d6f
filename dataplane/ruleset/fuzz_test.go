package ruleset_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"linkspan/dataplane/ruleset"
)

// FuzzRuleset: whatever a kernel says, decoding, writing and walking end.
func FuzzRuleset(f *testing.F) {
	files, err := filepath.Glob("testdata/*.dump")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 40_000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ruleset.ReadMessages(bytes.NewReader(b))
		if err != nil {
			return
		}
		rs := ruleset.Build(all)
		_ = rs.WriteText(io.Discard)
		for _, p := range []ruleset.Packet{{In: "lan", Src: ip("10.1.0.2"), Dst: ip("10.2.0.2"), Proto: "tcp", DstPort: 80},
			{In: "wan", Src: ip("fd00::1"), Dst: ip("fd00::2"), Proto: "udp", DstPort: 53}, {Src: ip("10.1.0.1"), Dst: ip("10.2.0.2"), Proto: "icmp"}} {
			rs.Forwarded(p, router)
			rs.Sent(p, router)
			rs.Sent(p, ruleset.Env{})
			rs.WalkIn("bridge", p, "forward", router)
		}
	})
}

// FuzzExprs: attributes that no kernel sends.
func FuzzExprs(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		table := &ruleset.Table{Family: "inet", Name: "t", Chains: []*ruleset.Chain{{Name: "c", Hook: "forward", Type: "filter", Policy: "accept",
			Rules: []*ruleset.Rule{{Exprs: ruleset.Exprs(b)}}}}}
		if _, s := ruleset.DecodeSet(b); s != nil {
			ruleset.DecodeElements(b, func(string, string) *ruleset.Set { return s })
			s.Find(b)
			s.Texts(nil)
			table.Sets = append(table.Sets, s)
		}
		rs := &ruleset.Ruleset{Tables: []*ruleset.Table{table}}
		rs.Link()
		_ = rs.WriteText(io.Discard)
		rs.Forwarded(ruleset.Packet{In: "lan", Src: ip("10.1.0.2"), Dst: netip.MustParseAddr("10.2.0.2"), Proto: "tcp"}, router)
	})
}

// legacyEntry is an entry of IPv4 with a standard target.
func legacyEntry(verdict int32) []byte {
	b := make([]byte, 112+40)
	ne := binary.NativeEndian
	ne.PutUint16(b[88:], 112)
	ne.PutUint16(b[90:], 152)
	ne.PutUint16(b[112:], 40)
	ne.PutUint32(b[112+32:], uint32(verdict))
	return b
}

func legacyInfo(entries []byte) ruleset.LegacyInfo {
	return ruleset.LegacyInfo{Name: "filter", Hooks: 4, Entry: [5]uint32{}, Underflow: [5]uint32{2: uint32(len(entries) - 152)}, Size: uint32(len(entries))}
}

func TestLegacy(t *testing.T) {
	b := append(legacyEntry(-2), legacyEntry(-1)...)
	table, err := ruleset.DecodeLegacy("ip", legacyInfo(b), b)
	if err != nil {
		t.Fatal(err)
	}
	(&ruleset.Ruleset{Tables: []*ruleset.Table{table}}).Link()
	if c := table.Chains[0]; c.Name != "FORWARD" || c.Policy != "drop" || len(c.Rules) != 1 || c.Rules[0].Text() != "-A FORWARD -j ACCEPT" {
		t.Errorf("%+v", c)
	}
	for _, bad := range [][]byte{b[:200], make([]byte, 300), append(legacyEntry(77), legacyEntry(-1)...)} {
		if table, err := ruleset.DecodeLegacy("ip", legacyInfo(b), bad); err == nil && len(bad) != 200 {
			t.Errorf("%d bytes of nonsense: %+v", len(bad), table)
		}
	}
	if _, err := ruleset.DecodeLegacyInfo(b[:50]); err == nil {
		t.Error("half an answer")
	}
}

func FuzzLegacy(f *testing.F) {
	f.Add(append(legacyEntry(-2), legacyEntry(-1)...), false)
	f.Add(append(legacyEntry(152), legacyEntry(-1)...), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		family := "ip"
		if v6 {
			family = "ip6"
		}
		table, err := ruleset.DecodeLegacy(family, legacyInfo(b), b)
		if err != nil {
			return
		}
		rs := &ruleset.Ruleset{Tables: []*ruleset.Table{table}}
		rs.Link()
		_ = rs.WriteText(io.Discard)
		rs.Forwarded(ruleset.Packet{In: "lan", Src: ip("10.1.0.2"), Dst: ip("10.2.0.2"), Proto: "tcp"}, router)
	})
}
