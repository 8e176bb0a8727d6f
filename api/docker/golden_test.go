package docker

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/container"
	"linkspan/internal/golden"

	apinetwork "github.com/moby/moby/api/types/network"
)

// rendered compares an answer with the file of that name.
func rendered(t *testing.T, name string, body []byte) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, body, "", "  "); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	golden.Compare(t, "testdata/golden/"+name+".json", pretty.String())
}

func portsOf(t *testing.T, names ...string) apinetwork.PortSet {
	t.Helper()
	set := apinetwork.PortSet{}
	for _, n := range names {
		p, err := apinetwork.ParsePort(n)
		if err != nil {
			t.Fatal(err)
		}
		set[p] = struct{}{}
	}
	return set
}

// fullContainer uses everything that rendering knows: a dual-stack bridge, a
// published range, one address, exposed ports, aliases, a chosen MAC, mounts.
func fullContainer(t *testing.T) (*container.Container, *cnm.Sandbox) {
	c := testContainer(7, "shop", container.Running)
	c.State.Pid = 4242
	c.Config.ExposedPorts = portsOf(t, "3306/tcp", "33060/tcp", "53/udp")
	c.Config.Labels = map[string]string{"com.docker.compose.project": "shop"}
	c.Config.Env = []string{"A=<b>&c"}
	c.Networks = map[string]*apinetwork.EndpointSettings{"default": {
		Aliases: []string{"db"}, DNSNames: []string{"shop", "db"}, GwPriority: 5,
		IPAMConfig: &apinetwork.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("172.17.0.9")},
		MacAddress: apinetwork.HardwareAddr{2, 0x42, 1, 2, 3, 4},
		DriverOpts: map[string]string{"com.docker.network.endpoint.ifname": "lan0"},
	}}
	c.Mounts = []container.Mount{
		{Type: "bind", Source: "/data", Destination: "/var/lib/mysql", RW: true, Propagation: "rprivate"},
		{Type: "volume", Name: "conf", Source: "/var/lib/linkspan/volumes/conf/_data", Destination: "/etc/mysql", Mode: "z"},
	}
	sb := &cnm.Sandbox{
		ID: strings.Repeat("5a", 32), Owner: c.ID, OwnerName: c.Name, Members: []string{c.ID}, Path: "/run/linkspan/netns/5a5a5a5a5a5a",
		Endpoints: []cnm.Endpoint{{
			ID: strings.Repeat("e0", 32), NetworkID: bridgeID, NetworkName: "bridge", IfName: "eth0", MAC: "02:42:01:02:03:04",
			Addrs:    []netip.Prefix{netip.MustParsePrefix("172.17.0.9/16"), netip.MustParsePrefix("fd00::9/64")},
			Gateways: []netip.Addr{netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("fd00::1")},
		}},
		Ports: []cnm.PublishedPort{
			{Proto: "tcp", HostPort: 8000, HostPortEnd: 8002, Port: 9000},
			{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 3306, HostPortEnd: 3306, Port: 3306},
			{Proto: "udp", HostIP: netip.MustParseAddr("::1"), HostPort: 53, HostPortEnd: 53, Port: 53},
		},
	}
	return c, sb
}

// TestGoldenByVersion: one file per answer and version at which it changes.
func TestGoldenByVersion(t *testing.T) {
	c, sb := fullContainer(t)
	h := New(testConfig(newFakeContainers(c), newFakeNetwork(sb)))
	for name, path := range map[string]string{
		"inspect":         "/containers/shop/json",
		"networks":        "/networks",
		"network-inspect": "/networks/bridge",
		"list":            "/containers/json?all=1",
	} {
		for _, v := range []string{"1.24", "1.41", "1.44", "1.48", "1.51"} {
			t.Run(name+"-"+v, func(t *testing.T) {
				w := request(t, h, "GET", "/v"+v+path, "")
				if w.Code != 200 {
					t.Fatalf("%d %s", w.Code, w.Body)
				}
				body := w.Body.String()
				if name == "list" { // "Up 3 weeks" depends on the day
					i := strings.Index(body, `"Status":"`) + len(`"Status":"`)
					body = body[:i] + "Up" + body[i+strings.Index(body[i:], `"`):]
				}
				rendered(t, name+"-"+v, []byte(body))
			})
		}
	}
}

// TestGoldenInfo: info by version, without what changes from run to run.
func TestGoldenInfo(t *testing.T) {
	h := New(testConfig(newFakeContainers(testContainer(1, "a", container.Running), testContainer(2, "b", container.Paused), testContainer(3, "c", container.Exited)), newFakeNetwork()))
	for _, v := range []string{"1.24", "1.41", "1.47", "1.49", "1.51"} {
		t.Run(v, func(t *testing.T) {
			w := request(t, h, "GET", "/v"+v+"/info", "")
			var m map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
				t.Fatal(err)
			}
			for _, k := range []string{"SystemTime", "NFd", "NGoroutines"} {
				if _, ok := m[k]; !ok {
					t.Errorf("no %s", k)
				}
				delete(m, k)
			}
			b, _ := json.Marshal(m)
			rendered(t, "info-"+v, b)
		})
	}
}

func TestStatusLine(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	up, end := now.Add(-4*time.Hour), now.Add(-90*time.Second)
	for want, st := range map[string]container.State{
		"Up 4 hours":                        {Phase: container.Running, StartedAt: up},
		"Up 4 hours (Paused)":               {Phase: container.Paused, StartedAt: up},
		"Restarting (1) About a minute ago": {Phase: container.Restarting, ExitCode: 1, FinishedAt: end},
		"Exited (137) About a minute ago":   {Phase: container.Exited, ExitCode: 137, StartedAt: up, FinishedAt: end},
		"Created":                           {Phase: container.Created},
		"Dead":                              {Phase: container.Dead},
		"Removal In Progress":               {Phase: container.Removing},
	} {
		if got := statusLine(st, now); got != want {
			t.Errorf("%v: %q, want %q", st.Phase, got, want)
		}
	}
}

func TestCommand(t *testing.T) {
	if got := command("sh", []string{"-c", "sleep 5; date"}); got != `sh -c 'sleep 5; date'` {
		t.Error(got)
	}
	if got := command("redis-server", nil); got != "redis-server" {
		t.Error(got)
	}
}
