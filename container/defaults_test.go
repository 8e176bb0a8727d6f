package container

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
)

// What a running daemon's defaults become decides for the containers that come, and
// leaves the limits that are no part of it.
func TestSetDefaults(t *testing.T) {
	e := &Engine{cfg: Config{Runtimes: map[string]string{"crun": "/usr/bin/crun"}}}
	e.defaults.Store(&Defaults{ShmSize: 1 << 20, CgroupParent: "/x", Init: true})
	next := Defaults{Runtime: "crun", ShmSize: 2 << 20, DNSOptions: []string{"ndots:2"}, DNS: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		LogConfig: apicontainer.LogConfig{Type: "local", Config: map[string]string{"max-size": "1m"}}}
	if err := e.SetDefaults(next); err != nil {
		t.Fatal(err)
	}
	var hc apicontainer.HostConfig
	e.fillHostConfig(&hc)
	if hc.Runtime != "crun" || hc.ShmSize != 1<<20 || hc.LogConfig.Type != "local" || hc.LogConfig.Config["max-size"] != "1m" || e.withInit(&hc) {
		t.Errorf("%+v", hc)
	}
	if w := e.dnsWish(&hc); len(w.DNS) != 1 || len(w.Options) != 1 || e.defaults.Load().CgroupParent != "/x" {
		t.Errorf("%+v", w)
	}
	if w := e.dnsWish(&apicontainer.HostConfig{DNS: []netip.Addr{netip.MustParseAddr("192.0.2.2")}}); w.DNS[0] != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("the container's own: %+v", w)
	}

	was := e.defaults.Load()
	for words, bad := range map[string]Defaults{
		"default runtime: unknown or invalid runtime name: nosuch": {Runtime: "nosuch"},
		"did you mean max-size?":                                   {LogConfig: apicontainer.LogConfig{Type: "local", Config: map[string]string{"max-sizes": "1m"}}},
		"init-path: ":                                              {InitPath: "/nosuch/init"},
	} {
		bad.DNSSearch = []string{"corp.example"}
		if err := e.SetDefaults(bad); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
		if e.defaults.Load() != was || *e.defaultRuntime.Load() != "crun" {
			t.Errorf("%s: changed", words)
		}
	}
}
