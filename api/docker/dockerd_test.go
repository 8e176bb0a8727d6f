package docker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/container"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
)

// The goldens in testdata/dockerd-20.10 are what Debian's dockerd 20.10.24
// answered (testdata/record.sh). Each is turned back into our model and rendered
// again; every field must come back as it was, except these.
var mayDiffer = map[string]string{
	"GraphDriver":                "containerd's snapshotters have no layer folders to show; the name is the snapshotter's",
	"Driver":                     "overlayfs, containerd's name, where dockerd says overlay2",
	"HostConfig.KernelMemory":    "left the API's types; the kernel ignores it since 5.4",
	"HostConfig.KernelMemoryTCP": "left the API's types",
	// Only after the end of a container:
	"exited NetworkSettings.SandboxID":  "dockerd shows the id of a sandbox that is gone; ours is empty then, as dockerd's since 26",
	"exited NetworkSettings.SandboxKey": "the path of a namespace that is gone",
	// Before the first start:
	"created NetworkSettings.Networks.lamp.Aliases": "dockerd adds the short id and the hostname at connect; ours when it is started first, as with the network it was created on",
}

// recorded is what the goldens' reader needs of them, in 20.10's shape.
type recorded struct {
	ID           string `json:"Id"`
	Created      time.Time
	Path         string
	Args         []string
	Image, Name  string
	RestartCount int
	State        struct {
		Status                string
		Pid, ExitCode         int
		StartedAt, FinishedAt time.Time
		Health                *container.Health
	}
	Config          *recordedConfig
	HostConfig      *apicontainer.HostConfig
	NetworkSettings struct {
		SandboxID, SandboxKey string
		Ports                 map[string][]struct{ HostIp, HostPort string }
		Networks              map[string]struct {
			NetworkID, EndpointID, Gateway, IPAddress, MacAddress string
			IPv6Gateway, GlobalIPv6Address                        string
			IPPrefixLen, GlobalIPv6PrefixLen                      int
			IPAMConfig                                            *apinetwork.EndpointIPAMConfig
			Links, Aliases                                        []string
			DriverOpts                                            map[string]string
		}
	}
}

type recordedConfig struct {
	apicontainer.Config
	MacAddress string
}

func readJSONFile(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// model turns a recorded inspect back into a container and its sandbox.
func (r *recorded) model(t *testing.T) (*container.Container, *cnm.Sandbox) {
	t.Helper()
	c := &container.Container{
		ID: r.ID, Name: strings.TrimPrefix(r.Name, "/"), Created: r.Created, Config: &r.Config.Config, HostConfig: r.HostConfig,
		ImageID: r.Image, Path: r.Path, Args: r.Args, Target: r.HostConfig.NetworkMode.ConnectedContainer(),
		State: container.State{
			Phase: container.Phase(r.State.Status), Pid: r.State.Pid, ExitCode: r.State.ExitCode,
			StartedAt: r.State.StartedAt, FinishedAt: r.State.FinishedAt, Restarts: r.RestartCount, Health: r.State.Health,
		},
	}
	r.wishes(t, c)
	if !running(c.State.Phase) || c.Target != "" {
		return c, nil
	}
	sb := &cnm.Sandbox{ID: r.NetworkSettings.SandboxID, Path: r.NetworkSettings.SandboxKey, Owner: c.ID, OwnerName: c.Name, Members: []string{c.ID}}
	for name, n := range r.NetworkSettings.Networks {
		ep := cnm.Endpoint{ID: n.EndpointID, NetworkID: n.NetworkID, NetworkName: name, MAC: n.MacAddress}
		if n.IPAddress != "" {
			ep.Addrs = []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(n.IPAddress), n.IPPrefixLen)}
			ep.Gateways = []netip.Addr{netip.MustParseAddr(n.Gateway)}
		}
		if n.GlobalIPv6Address != "" {
			ep.Addrs = append(ep.Addrs, netip.PrefixFrom(netip.MustParseAddr(n.GlobalIPv6Address), n.GlobalIPv6PrefixLen))
		}
		if c.HostConfig.NetworkMode.IsUserDefined() {
			ep.Names, ep.Gateways = namesOf(c, c.Networks[name]), nil // the network tells the gateways
		}
		sb.Host = name == "host"
		sb.Endpoints = append(sb.Endpoints, ep)
	}
	for port, bindings := range r.NetworkSettings.Ports {
		for _, b := range bindings {
			if b.HostIp == "::" {
				continue // the second half of "every address"
			}
			num, proto, _ := strings.Cut(port, "/")
			p := cnm.PublishedPort{Proto: proto, Port: atou16(t, num), HostPort: atou16(t, b.HostPort)}
			p.HostPortEnd = p.HostPort
			if b.HostIp != "0.0.0.0" {
				p.HostIP = netip.MustParseAddr(b.HostIp)
			}
			sb.Ports = append(sb.Ports, p)
		}
	}
	return c, sb
}

// wishes turns what a recording shows of endpoints and links back into what was
// asked for: the short id and the hostname among the aliases are dockerd's own.
func (r *recorded) wishes(t *testing.T, c *container.Container) {
	t.Helper()
	for _, l := range r.HostConfig.Links {
		target, name, _ := strings.Cut(l, ":")
		c.Links = append(c.Links, container.Link{Target: target, Alias: name[strings.LastIndex(name, "/")+1:]})
	}
	if !r.HostConfig.NetworkMode.IsUserDefined() {
		return
	}
	c.Networks = map[string]*apinetwork.EndpointSettings{}
	for name, n := range r.NetworkSettings.Networks {
		own := func(a string) bool { return a == c.ID[:12] || a == c.Config.Hostname }
		ep := &apinetwork.EndpointSettings{IPAMConfig: n.IPAMConfig, Links: n.Links, DriverOpts: n.DriverOpts, Aliases: slices.DeleteFunc(n.Aliases, own)}
		if name == string(r.HostConfig.NetworkMode) && r.Config.MacAddress != "" {
			if err := ep.MacAddress.UnmarshalText([]byte(r.Config.MacAddress)); err != nil {
				t.Fatal(err)
			}
		}
		c.Networks[name] = ep
	}
}

// recordedNetwork is a recorded inspect of a network as our model.
func recordedNetwork(t *testing.T, name string) *cnm.Network {
	t.Helper()
	var r struct {
		apinetwork.Network
		Created time.Time
	}
	readJSONFile(t, "testdata/dockerd-20.10/network-"+name+".json", &r)
	n := &cnm.Network{
		ID: r.ID, Name: r.Name, Driver: r.Driver, Created: r.Created, IPv6: r.EnableIPv6, IPAMOptions: r.IPAM.Options, Internal: r.Internal,
		Attachable: r.Attachable, ConfigOnly: r.ConfigOnly, ConfigFrom: r.ConfigFrom.Network, Options: r.Options, Labels: r.Labels,
	}
	for _, p := range r.IPAM.Config {
		n.Pools = append(n.Pools, cnm.Pool{Subnet: p.Subnet, Gateway: p.Gateway, Range: p.IPRange, Aux: p.AuxAddress})
	}
	return n
}

func atou16(t *testing.T, s string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

// flatten makes "a.b[0].c" → value of any JSON.
func flatten(prefix string, v any, into map[string]string) {
	switch x := v.(type) {
	case map[string]any:
		if len(x) == 0 {
			into[prefix] = "{}"
		}
		for k, e := range x {
			flatten(strings.TrimPrefix(prefix+"."+k, "."), e, into)
		}
	case []any:
		if len(x) == 0 {
			into[prefix] = "[]"
		}
		for i, e := range x {
			flatten(fmt.Sprintf("%s[%d]", prefix, i), e, into)
		}
	default:
		into[prefix] = fmt.Sprintf("%#v", x)
	}
}

// differences lists the paths at which two JSON texts differ.
func differences(t *testing.T, want, got []byte) []string {
	t.Helper()
	var w, g any
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	fw, fg := map[string]string{}, map[string]string{}
	flatten("", w, fw)
	flatten("", g, fg)
	var diff []string
	for k, v := range fw {
		if o, ok := fg[k]; !ok {
			diff = append(diff, k+": Docker has "+v+", ours has nothing")
		} else if o != v {
			diff = append(diff, k+": Docker has "+v+", ours has "+o)
		}
	}
	for k, v := range fg {
		if _, ok := fw[k]; !ok {
			diff = append(diff, k+": Docker has nothing, ours has "+v)
		}
	}
	sort.Strings(diff)
	return diff
}

// allowed says whether a difference is on the list.
func allowed(list map[string]string, phase, diff string) bool {
	path, _, _ := strings.Cut(diff, ": ")
	for k := range list {
		if p, ok := strings.CutPrefix(k, phase+" "); ok {
			k = p
		}
		if path == k || strings.HasPrefix(path, k+".") || strings.HasPrefix(path, k+"[") {
			return true
		}
	}
	return false
}

func request(t *testing.T, h http.Handler, method, path string, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestInspectAsDockerd(t *testing.T) {
	files, _ := filepath.Glob("testdata/dockerd-20.10/*-*.json")
	seen := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if kind, _, _ := strings.Cut(name, "-"); slices.Contains([]string{"network", "exec", "list", "answer"}, kind) {
			continue
		}
		seen++
		t.Run(name, func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r, joined recorded
			readJSONFile(t, file, &r)
			c, sb := r.model(t)
			cs, n := newFakeContainers(c), newFakeNetwork()
			// Each recording has its own networks.
			for name, ep := range r.NetworkSettings.Networks {
				for _, known := range n.networks {
					if known.Name == name && ep.NetworkID != "" {
						known.ID = ep.NetworkID
					}
				}
			}
			if strings.HasPrefix(name, "member-") {
				n.networks = append(n.networks, recordedNetwork(t, "my-net"), recordedNetwork(t, "lamp"))
			}
			if len(c.Links) > 0 {
				target := testContainer(1, "bridge", container.Running)
				cs.all[target.ID] = target
			}
			if sb != nil {
				n.sandboxes = []*cnm.Sandbox{sb}
			}
			if c.Target != "" {
				readJSONFile(t, "testdata/dockerd-20.10/bridge-running.json", &joined)
				target, tsb := joined.model(t)
				cs.all[target.ID] = target
				tsb.Members = append(tsb.Members, c.ID)
				n.sandboxes = []*cnm.Sandbox{tsb}
			}
			w := request(t, New(testConfig(cs, n)), "GET", "/v1.41/containers/"+c.ID+"/json", "")
			if w.Code != 200 {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			for _, d := range differences(t, want, w.Body.Bytes()) {
				if !allowed(mayDiffer, string(c.State.Phase), d) {
					t.Error(d)
				}
			}
		})
	}
	if seen < 16 {
		t.Fatalf("only %d recordings were found", seen)
	}
}

func TestListAsDockerd(t *testing.T) {
	var list []map[string]any
	readJSONFile(t, "testdata/dockerd-20.10/list.json", &list)
	cs, n := newFakeContainers(), newFakeNetwork()
	for _, name := range []string{"bridge-running", "host-running", "none-running", "container-running"} {
		var r recorded
		readJSONFile(t, "testdata/dockerd-20.10/"+name+".json", &r)
		c, sb := r.model(t)
		c.ImageID = testImageID
		cs.all[c.ID] = c
		if sb != nil {
			n.sandboxes = append(n.sandboxes, sb)
		}
	}
	w := request(t, New(testConfig(cs, n)), "GET", "/v1.41/containers/json", "")
	var ours []map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &ours); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	for _, c := range list {
		c["ImageID"] = testImageID // each recording imports the image anew
	}
	byPort := func(l []map[string]any) {
		for _, c := range l {
			ports := c["Ports"].([]any)
			slices.SortStableFunc(ports, func(a, b any) int {
				return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) // dockerd's order is a map's
			})
			delete(c, "Status") // a duration
		}
	}
	byPort(list)
	byPort(ours)
	want, _ := json.Marshal(list)
	got, _ := json.Marshal(ours)
	for _, d := range differences(t, want, got) {
		t.Error(d)
	}
}

func TestNetworksAsDockerd(t *testing.T) {
	// dockerd 20.10 leaves the gateway out unless --bip gave one; later ones, and
	// ours, always show it.
	may := map[string]string{"IPAM.Config[0].Gateway": ""}
	for _, name := range []string{"bridge", "host", "none"} {
		t.Run(name, func(t *testing.T) {
			file := "testdata/dockerd-20.10/network-" + name + ".json"
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var rn struct {
				ID      string `json:"Id"`
				Created time.Time
			}
			readJSONFile(t, file, &rn)
			var r recorded
			readJSONFile(t, "testdata/dockerd-20.10/"+name+"-running.json", &r)
			c, sb := r.model(t)
			net := newFakeNetwork(sb)
			for _, known := range net.networks {
				if known.Name == name {
					known.ID, known.Created = rn.ID, rn.Created
				}
			}
			w := request(t, New(testConfig(newFakeContainers(c), net)), "GET", "/v1.41/networks/"+name, "")
			for _, d := range differences(t, want, w.Body.Bytes()) {
				if !allowed(may, "", d) {
					t.Error(d)
				}
			}
		})
	}
}

// TestUserNetworksAsDockerd: networks that a person made, and the list of the
// containers on them, with a link's second name and the health.
func TestUserNetworksAsDockerd(t *testing.T) {
	var r recorded
	readJSONFile(t, "testdata/dockerd-20.10/member-running.json", &r)
	c, sb := r.model(t)
	n := newFakeNetwork(sb)
	for _, name := range []string{"my-net", "lamp", "base", "derived"} {
		n.networks = append(n.networks, recordedNetwork(t, name))
	}
	h := New(testConfig(newFakeContainers(c), n))
	for _, name := range []string{"my-net", "lamp", "base", "derived"} {
		want, err := os.ReadFile("testdata/dockerd-20.10/network-" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		w := request(t, h, "GET", "/v1.41/networks/"+name, "")
		for _, d := range differences(t, want, w.Body.Bytes()) {
			t.Errorf("%s: %s", name, d)
		}
	}

	var list []struct {
		ID    string `json:"Id"`
		Names []string
	}
	readJSONFile(t, "testdata/dockerd-20.10/list-networks.json", &list)
	cs := newFakeContainers(c)
	for _, name := range []string{"bridge", "linker"} {
		var r recorded
		readJSONFile(t, "testdata/dockerd-20.10/"+name+"-running.json", &r)
		c, _ := r.model(t)
		for i := range c.Links {
			for _, l := range list {
				if slices.Contains(l.Names, c.Links[i].Target) {
					c.Links[i].Target = l.ID
				}
			}
		}
		cs.all[c.ID] = c
	}
	w := request(t, New(testConfig(cs, n)), "GET", "/v1.41/containers/json?all=1", "")
	var ours []struct {
		ID     string `json:"Id"`
		Names  []string
		Status string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &ours); err != nil || len(ours) != 3 {
		t.Fatalf("%v: %s", err, w.Body)
	}
	for _, o := range ours {
		for _, l := range list {
			if l.ID == o.ID && !slices.Equal(l.Names, o.Names) {
				t.Errorf("%s, dockerd has %s", o.Names, l.Names)
			}
		}
		if o.Names[0] == "/linker" && !strings.HasSuffix(o.Status, " (healthy)") {
			t.Errorf("%s", o.Status)
		}
	}
}

// TestSystemAsDockerd: `docker info` and `docker version` of 20.10 clients find
// every field that they know; values belong to the host.
func TestSystemAsDockerd(t *testing.T) {
	missing := map[string][]string{
		"info":    {"KernelMemory", "KernelMemoryTCP", "DriverStatus", "Runtimes", "RegistryConfig.Mirrors", "RegistryConfig.IndexConfigs"},
		"version": {"Components[2].Details.GitCommit", "Components[1].Details.GitCommit"},
	}
	for name, may := range missing {
		want, err := os.ReadFile("testdata/dockerd-20.10/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		w := request(t, New(testConfig(newFakeContainers(), newFakeNetwork())), "GET", "/v1.41/"+name, "")
		for _, d := range differences(t, want, w.Body.Bytes()) {
			path, _, _ := strings.Cut(d, ": ")
			top, _, _ := strings.Cut(path, "[")
			if !strings.Contains(d, "ours has nothing") || slices.ContainsFunc(may, func(m string) bool { return strings.HasPrefix(path, m) }) || top == "Plugins.Log" || top == "Plugins.Network" {
				continue
			}
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestErrorsAsDockerd replays the recorded requests: the same status, and the
// same words but for those listed.
func TestErrorsAsDockerd(t *testing.T) {
	differ := map[string]string{
		"GET /v1.99/containers/json":                 "our maximum is 1.51",
		"GET /v1.9/containers/json":                  "our minimum is 1.24, and the answer is JSON",
		"POST /containers/bridge/wait?condition=foo": "20.10 takes any word for not-running",
		"POST /containers/create":                    "500 in 20.10; 400 since 23",
		"GET /containers/bridge/archive":             "20.10 lost a space",
		"POST /containers/bridge/resize?h=a&w=1":     "strconv's words",
		"GET /events?since=foo":                      "500 in 20.10; 400 since 23",
		"GET /containers/json?limit=foo":             "500 in 20.10",
	}
	// Behind the services, which are fakes here.
	skip := []string{"/images/", "/volumes/", "/stop", "/kill", "/rename", `{"Image":"box"}`, "/bridge/exec", "/update",
		"/networks/create", "/networks/lamp", "/networks/host/connect"}
	b, err := os.ReadFile("testdata/dockerd-20.10/errors.tsv")
	if err != nil {
		t.Fatal(err)
	}
	h := New(testConfig(newFakeContainers(testContainer(1, "bridge", container.Exited)), newFakeNetwork()))
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		what, body, words := f[1], f[2], f[3]
		if slices.ContainsFunc(skip, func(s string) bool { return strings.Contains(what+body, s) }) {
			continue
		}
		method, path, _ := strings.Cut(what, " ")
		w := request(t, h, method, path, body)
		if why, ok := differ[what]; ok && f[0] != "404" {
			if w.Code != 400 {
				t.Errorf("%s %s: status %d, want 400 (%s)", what, body, w.Code, why)
			}
			continue
		}
		got := strings.TrimSpace(w.Body.String())
		isFilter := strings.Contains(what, "filters=") && strings.Contains(got, "invalid filter")
		wantCode := f[0]
		if isFilter {
			wantCode = "400" // 20.10: 500 for some
		}
		if fmt.Sprint(w.Code) != wantCode {
			t.Errorf("%s %s: status %d, dockerd's %s (%s)", what, body, w.Code, f[0], got)
		}
		if !isFilter && !strings.EqualFold(got, words) {
			t.Errorf("%s %s:\nours    %s\ndockerd %s", what, body, got, words)
		}
	}
}
