package config

import (
	"strings"
	"testing"
)

func TestMetricsAddr(t *testing.T) {
	for _, c := range []struct{ in, want, wrong string }{
		{in: "", want: ""},
		{in: "127.0.0.1:9323", want: "127.0.0.1:9323"},
		{in: "tcp://127.0.0.1:9323", want: "127.0.0.1:9323"},
		{in: ":9323", want: ":9323"},
		{in: "[::1]:9323", want: "[::1]:9323"},
		{in: "localhost:9323", want: "localhost:9323"},
		{in: "unix:///run/linkspan//metrics.sock", want: "unix:///run/linkspan/metrics.sock"},
		{in: "unix://metrics.sock", wrong: "begins with /"},
		{in: "unix:///" + strings.Repeat("x", 200), wrong: "at most 107"},
		{in: "9323", wrong: "no address with a port"},
		{in: "127.0.0.1", wrong: "want 127.0.0.1:9323"},
		{in: "::1:9323", wrong: "no address with a port"},
		{in: "127.0.0.1:http", wrong: "no port"},
		{in: "127.0.0.1:0", wrong: "no port"},
		{in: "127.0.0.1:70000", wrong: "no port"},
	} {
		r, err := with("linkspan", "", "--metrics-addr="+c.in)
		switch {
		case c.wrong != "":
			if err == nil || !strings.Contains(err.Error(), c.wrong) || !strings.Contains(err.Error(), "metrics-addr") {
				t.Errorf("%s: %v, want %q", c.in, err, c.wrong)
			}
		case err != nil || r.Config.MetricsAddr != c.want:
			t.Errorf("%s: %v %+v", c.in, err, r)
		}
	}
	r, err := with("linkspan", `{"metrics-addr":"127.0.0.1:9323"}`)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := Reload(r.Config, []byte(`{"metrics-addr":":9324"}`))
	if err != nil || ch.Config.MetricsAddr != ":9324" || len(ch.Warnings) != 0 {
		t.Errorf("reload: %v %+v", err, ch)
	}
}
