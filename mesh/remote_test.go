package mesh

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"linkspan/cnm"
)

func someRemote() cnm.Remote {
	id := strings.Repeat("0123456789abcdef", 4)
	return cnm.Remote{ID: "e1", Host: "h1", Container: id, ContainerName: "shop-web-1", MAC: "02:42:c0:a8:02:01",
		Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.2.1/16"), netip.MustParsePrefix("fd00::21/64")},
		Names: []string{"shop-web-1", "web", id[:12]}, Exposed: []string{"80/tcp"}}
}

func TestRemoteRecord(t *testing.T) {
	r := someRemote()
	b := encodeRemote(&r)
	const golden = `{"container":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","name":"shop-web-1",` +
		`"addrs":["192.168.2.1/16","fd00::21/64"],"mac":"02:42:c0:a8:02:01","names":["shop-web-1","web","0123456789ab"],"exposed":["80/tcp"]}`
	if string(b) != golden {
		t.Errorf("the record is another than hosts of this version read:\n%s\n%s", b, golden)
	}
	if len(b) != ByteSize(r) {
		t.Errorf("%d bytes are said to be %d", len(b), ByteSize(r))
	}
	m := &Mesh{id: "me"}
	got, ok := m.remoteOf(endpointKey("n", "h1", "e1"), b)
	if !ok || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v\nis read as\n%+v", r, got)
	}
	if _, ok := m.remoteOf(endpointKey("n", "me", "e1"), b); ok {
		t.Error("this host's own is no remote")
	}
	if _, ok := m.remoteOf("endpoints/n/h1", b); ok {
		t.Error("a key of no endpoint was read")
	}
}

// TestRemoteByHand: what this version writes is read without encoding/json, and all else
// by it.
func TestRemoteByHand(t *testing.T) {
	plain := someRemote()
	umlaut, none := plain, cnm.Remote{Container: "c"}
	umlaut.Names = []string{"zähler"}
	for _, c := range []struct {
		name, record string
		hand, valid  bool
	}{
		{"ours", string(encodeRemote(&plain)), true, true},
		{"no lists", `{"container":"c","name":"n","addrs":[],"mac":""}`, true, true},
		{"another order", `{"mac":"m","name":"n","names":["a,b","]"]}`, true, true},
		{"nothing", `{}`, true, true},
		{"of a later version", `{"container":"c","weight":3,"name":"n","more":{"a":[1,"}"]}}`, false, true},
		{"escapes", `{"name":"a\u003cb\""}`, false, true},
		{"no ASCII", string(encodeRemote(&umlaut)), false, true},
		{"null", string(encodeRemote(&none)), false, true},
		{"space", `{ "name" : "n" }`, false, true},
		{"cut off", `{"container":"c","name":"n`, false, false},
		{"no address", `{"addrs":["10.0.0.1"]}`, false, false},
		{"another type", `{"names":"n"}`, false, false},
		{"more behind", `{"name":"n"}}`, false, false},
		{"empty", ``, false, false},
		{"a list", `["name"]`, false, false},
		{"a comma too many", `{"name":"n",}`, false, false},
		{"a comma too few", `{"name":"n""mac":"m"}`, false, false},
		{"a comma too few in a list", `{"names":["a""b"]}`, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := scanner(c.record)
			if _, hand := s.remote(); hand != c.hand {
				t.Errorf("by hand: %v", hand)
			}
			if _, valid := decodeRemote([]byte(c.record)); valid != c.valid {
				t.Errorf("read: %v", valid)
			}
		})
	}
}

// FuzzRemote: what is read by hand is what encoding/json reads.
func FuzzRemote(f *testing.F) {
	r := someRemote()
	f.Add(encodeRemote(&r))
	f.Add([]byte(`{"names":["a,b","]"],"addrs":["::/0"],"names":[]}`))
	f.Add([]byte(`{"container":"c","mac":"\n"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := scanner(b)
		got, ok := s.remote()
		if !ok {
			return
		}
		var want remote
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("%q is read by hand, and is wrong: %v", b, err)
		}
		if have := (remote{got.Container, got.ContainerName, got.Addrs, got.MAC, got.Names, got.Exposed}); !reflect.DeepEqual(have, want) {
			t.Fatalf("%q is read as\n%+v\nand is\n%+v", b, have, want)
		}
	})
}

func BenchmarkRemote(b *testing.B) {
	r := someRemote()
	record := encodeRemote(&r)
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := decodeRemote(record); !ok {
				b.Fatal("not read")
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := decode[remote](record); !ok {
				b.Fatal("not read")
			}
		}
	})
}
