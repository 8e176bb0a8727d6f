package driver_test

import (
	"errors"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/driver/host"
	"linkspan/driver/none"
)

func TestRegistry(t *testing.T) {
	r := driver.NewRegistry(bridge.Driver{}, host.Driver{}, none.Driver{})
	for _, name := range []string{"bridge", "host", "null"} {
		if d, err := r.Get(name); err != nil || d.Name() != name {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
	if _, err := r.Get("macvlan"); !errors.Is(err, cnm.ErrNotFound) || !strings.Contains(err.Error(), "this daemon has bridge, host, null") {
		t.Errorf("unknown: %v", err)
	}
}

func TestDecode(t *testing.T) {
	got := map[string]string{}
	known := map[string]func(string) error{}
	for _, k := range []string{"parent", "mode", "mtu"} {
		known[k] = func(v string) error {
			if v == "bad" {
				return errors.New("not like that")
			}
			got[k] = v
			return nil
		}
	}
	for _, c := range []struct {
		options map[string]string
		says    string // empty: taken
	}{
		{nil, ""},
		{map[string]string{"parent": "eth1", "mtu": "1400"}, ""},
		{map[string]string{"paren": "eth1"}, `driver toy has no option "paren"; did you mean parent?`},
		{map[string]string{"mde": "l2"}, "did you mean mode?"},
		{map[string]string{"com.example.other": "1"}, "it takes none like it"},
		{map[string]string{"mtu": "bad"}, "option mtu=bad: not like that"},
		{map[string]string{"aa": "1", "zz": "1"}, `"aa"`}, // the first by name, always the same
	} {
		err := driver.Decode(&cnm.Network{Name: "lan", Driver: "toy", Options: c.options}, known)
		if c.says == "" {
			if err != nil {
				t.Errorf("%v: %v", c.options, err)
			}
			continue
		}
		if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "network lan") {
			t.Errorf("%v: %v, want %q in it", c.options, err, c.says)
		}
	}
	if got["parent"] != "eth1" || got["mtu"] != "1400" {
		t.Errorf("decoded %v", got)
	}
}
