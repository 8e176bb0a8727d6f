package config

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"linkspan/cnm"
)

// FuzzFile: any bytes as the configuration file give an error of one class or a
// configuration that holds what its fields promise, and never a panic.
func FuzzFile(f *testing.F) {
	for _, s := range []string{
		`{}`, ``, `null`, `[]`, `{"debug":true,"mtu":9000}`, `{"hosts":["unix:///a","fd://"],"labels":["a=1"]}`, `{"proxies":{"http-proxy":"x"}}`,
		`{"runtimes":{"a":{"path":"/x","runtimeArgs":["y"]}}}`, `{"default-ulimits":{"nofile":{"Name":"nofile","Soft":1,"Hard":2}}}`,
		`{"bip":"10.0.0.1/24","fixed-cidr":"10.0.0.0/25","default-gateway":"10.0.0.2"}`, `{"default-shm-size":"64m"}`, `{"debug":true,"debug":true}`,
		`{"host-gateway-ip":"::ffff:1.2.3.4"}`, `{"shutdown-timeout":99999999999}`, "{\"a\":1,\n}", `{"proxies":{"proxies":{}}}`, `{"default-shm-size":1e3}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := with("linkspan", string(b))
		if err != nil {
			if errors.Is(err, cnm.ErrInvalid) == errors.Is(err, cnm.ErrUnsupported) {
				t.Errorf("the error has not one class: %v", err)
			}
			return
		}
		c := r.Config
		if c.MTU < 68 || c.DefaultShmSize <= 0 || len(c.Hosts) == 0 || c.DataRoot == "" || c.Pidfile == "" || c.DefaultRuntime == "" {
			t.Errorf("%s: made %+v", b, c)
		}
		for _, h := range c.Hosts {
			if h.Proto != "unix" && h.Proto != "fd" || h.Proto == "unix" && h.Addr == "" {
				t.Errorf("%s: host %v", b, h)
			}
		}
		ch, err := Reload(c, b)
		if err != nil || len(ch.Keys)+len(ch.Warnings) > 0 {
			t.Errorf("%s: reloading the same bytes: %+v, %v", b, ch, err)
		}
	})
}

// FuzzObject: the reader of members agrees with encoding/json on what is an
// object, and on the values of keys that stand there once.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,2]},"c":null,"\u0061":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		members, err := object(b)
		var all map[string]json.RawMessage
		// "null" is no object to us, and a nil map to encoding/json.
		isObject := json.Unmarshal(b, &all) == nil && all != nil
		if _, nested := all["proxies"]; nested {
			return
		}
		if (err == nil) != isObject {
			t.Fatalf("%q: object says %v, encoding/json %v", b, err, isObject)
		}
		last := map[string]json.RawMessage{}
		for _, m := range members {
			last[m.key] = m.raw
		}
		if err == nil {
			if d := cmp.Diff(len(all), len(last)); d != "" {
				t.Fatalf("%q: %s", b, d)
			}
		}
	})
}
