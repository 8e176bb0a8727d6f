package reading

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

func TestParsePacket(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      Packet
	}{
		{"a SYN", "4500003c1c4640004006b1e6ac1100020a000001 9c4a1f90 00000000 00000000 a002 fa28 00000000",
			Packet{Proto: "tcp", Src: netip.MustParseAddrPort("172.17.0.2:40010"), Dst: netip.MustParseAddrPort("10.0.0.1:8080"), Length: 60, TCPFlags: "SYN", payload: 20}},
		{"a SYN, cut after the ports", "4500003c1c4640004006b1e6ac1100020a000001 9c4a1f90",
			Packet{Proto: "tcp", Src: netip.MustParseAddrPort("172.17.0.2:40010"), Dst: netip.MustParseAddrPort("10.0.0.1:8080"), Length: 60, payload: 20}},
		{"with options", "4600002000000000 4011 0000 ac110002 ac110003 01010101 00350036 000c0000",
			Packet{Proto: "udp", Src: netip.MustParseAddrPort("172.17.0.2:53"), Dst: netip.MustParseAddrPort("172.17.0.3:54"), Length: 32, payload: 24}},
		{"a ping", "4500005400004000 4001 0000 ac110002 08080808 0800 1234 0001 0002",
			Packet{Proto: "icmp", Src: netip.MustParseAddrPort("172.17.0.2:0"), Dst: netip.MustParseAddrPort("8.8.8.8:0"), Length: 84, ICMPType: "echo-request", ID: 1, payload: 20}},
		{"fragmentation needed", "4500003800004000 4001 0000 ac110001 ac110002 0304 1234 0000 05dc",
			Packet{Proto: "icmp", Src: netip.MustParseAddrPort("172.17.0.1:0"), Dst: netip.MustParseAddrPort("172.17.0.2:0"), Length: 56, ICMPType: "destination-unreachable/4", payload: 20}},
		{"a later fragment", "450005dc00012001 4011 0000 ac110002 ac110003 00350036",
			Packet{Proto: "udp", Src: netip.MustParseAddrPort("172.17.0.2:0"), Dst: netip.MustParseAddrPort("172.17.0.3:0"), Length: 1500, Fragment: true}},
		{"another protocol", "4500001c00000000 405d 0000 ac110002 ac110003 00000000",
			Packet{Proto: "proto-93", Src: netip.MustParseAddrPort("172.17.0.2:0"), Dst: netip.MustParseAddrPort("172.17.0.3:0"), Length: 28, payload: 20}},
		{"IPv6 UDP", "6000000000081140 fd000000000000000000000000000002 fd000000000000000000000000000003 0035003600080000",
			Packet{Proto: "udp", Src: netip.MustParseAddrPort("[fd00::2]:53"), Dst: netip.MustParseAddrPort("[fd00::3]:54"), Length: 48, payload: 40}},
		{"IPv6 with hop-by-hop", "6000000000200001 fe800000000000000000000000000001 ff020000000000000000000000000016 3a00050200000100 8f00 abcd 00000001",
			Packet{Proto: "icmpv6", Src: netip.MustParseAddrPort("[fe80::1]:0"), Dst: netip.MustParseAddrPort("[ff02::16]:0"), Length: 72, ICMPType: "listener-report-v2", payload: 48}},
		{"an IPv6 fragment", "6000000000102c40 fd000000000000000000000000000002 fd000000000000000000000000000003 11000599 00000001 0035003600080000",
			Packet{Proto: "udp", Src: netip.MustParseAddrPort("[fd00::2]:0"), Dst: netip.MustParseAddrPort("[fd00::3]:0"), Length: 56, Fragment: true}},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(c.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := ParsePacket(b); !ok || got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
	for _, bad := range []string{"", "4", "45", "60", "0", "\x45\x00\x00", strings.Repeat("\x40", 40)} {
		if p, ok := ParsePacket([]byte(bad)); ok {
			t.Errorf("%q is %+v", bad, p)
		}
	}
}

func FuzzParsePacket(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 0, 44, 1}, make([]byte, 64)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := ParsePacket(b)
		if ok && (!p.Src.IsValid() || p.Proto == "" || p.Transport() > len(b)) {
			t.Errorf("%+v", p)
		}
	})
}
