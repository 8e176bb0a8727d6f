package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

func packed(t *testing.T, a Archive, skip string) []byte {
	t.Helper()
	var b bytes.Buffer
	p := newPacker(&b, time.Unix(1000, 0))
	m, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct{ name, data string }{{entryManifest, string(m)}, {entryCA, "ca"}, {entryCAKey, "key"}, {entryEtcd, strings.Repeat("etcd", 10000)}} {
		if e.name == skip {
			continue
		}
		if err := p.addBytes(e.name, []byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchive(t *testing.T) {
	good := Archive{Format: archiveFormat, Mesh: "7d2f6b1c", Hosts: 3, Revision: 41, Host: "host1"}
	whole := packed(t, good, "")
	a, err := Inspect(bytes.NewReader(whole))
	if err != nil || !reflect.DeepEqual(*a, good) {
		t.Fatalf("%+v %v", a, err)
	}
	got := map[string]string{}
	takes := map[string]func(io.Reader) error{}
	for _, n := range []string{entryCA, entryCAKey} {
		takes[n] = func(r io.Reader) error {
			b, err := io.ReadAll(r)
			got[n] = string(b)
			return err
		}
	}
	takes[entryEtcd] = func(r io.Reader) error { _, err := io.CopyN(io.Discard, r, 4); return err } // the rest is read all the same
	if _, err := unpack(bytes.NewReader(whole), takes); err != nil || got[entryCA] != "ca" || got[entryCAKey] != "key" {
		t.Errorf("%v %v", got, err)
	}
	mine := errors.New("mine")
	if _, err := unpack(bytes.NewReader(whole), map[string]func(io.Reader) error{entryCA: func(io.Reader) error { return mine }}); !errors.Is(err, mine) {
		t.Errorf("a taker's error: %v", err)
	}

	newer := good
	newer.Format = "linkspan-mesh-9"
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"empty":    {nil, "no whole backup"},
		"text":     {[]byte("hello, hello"), "no whole backup"},
		"newer":    {packed(t, newer, ""), `of format "linkspan-mesh-9", and this Linkspan knows`},
		"no key":   {packed(t, good, entryCAKey), "ca.key is not in it"},
		"no etcd":  {packed(t, good, entryEtcd), "etcd.db is not in it"},
		"cut":      {whole[:len(whole)-30], "no whole backup"},
		"cut much": {whole[:len(whole)/2], "no whole backup"},
	} {
		_, err := Inspect(bytes.NewReader(tt.data))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	// Whatever byte is damaged, it is found.
	for i := 12; i < len(whole)-8; i += 7 {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x40
		if got, err := Inspect(bytes.NewReader(bad)); err == nil && !reflect.DeepEqual(*got, good) {
			t.Errorf("byte %d changed, and it passes: %+v", i, got)
		}
	}
}

func FuzzArchive(f *testing.F) {
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := Inspect(bytes.NewReader(b)); err == nil && a.Format != archiveFormat {
			t.Errorf("%+v", a)
		}
	})
}
