package docker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/container"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

func testDoor(cs ...*container.Container) (http.Handler, *fakeContainers) {
	f := newFakeContainers(cs...)
	return New(testConfig(f, newFakeNetwork())), f
}

// TestLifeCalls: each request becomes exactly one call, with the right
// arguments and the right status.
func TestLifeCalls(t *testing.T) {
	for _, tc := range []struct {
		method, path, call string
		status             int
	}{
		{"POST", "/containers/web/start", "start web", 204},
		{"POST", "/containers/web/stop?t=5", "stop web  5", 204},
		{"POST", "/containers/web/stop?t=-1&signal=HUP", "stop web HUP -1", 204},
		{"POST", "/containers/web/stop", "stop web  own", 204},
		{"POST", "/containers/web/restart?t=1", "restart web", 204},
		{"POST", "/containers/web/kill?signal=USR1", "kill web USR1", 204},
		{"POST", "/containers/web/kill", "kill web ", 204},
		{"POST", "/containers/web/pause", "pause web", 204},
		{"POST", "/containers/web/unpause", "unpause web", 204},
		{"POST", "/containers/web/rename?name=shop", "rename web shop", 204},
		{"POST", "/containers/web/resize?h=24&w=80", "resize web 24x80", 200},
		{"DELETE", "/containers/web?force=1&v=true", "remove web true true", 204},
		{"DELETE", "/containers/web/db?link=1", "remove link web/db", 204},
		{"DELETE", "/v1.24/containers/web", "remove web false false", 204},
		{"GET", "/containers/web/top", "top web -ef", 200},
		{"GET", "/containers/web/top?ps_args=aux", "top web aux", 200},
		{"GET", "/containers/web/logs?stdout=1&tail=5", fmt.Sprintf("logs %s follow=false tail=5", testContainer(1, "", "").ID), 200},
		{"GET", "/containers/web/logs?stderr=1&tail=all&follow=1", fmt.Sprintf("logs %s follow=true tail=-1", testContainer(1, "", "").ID), 200},
		{"HEAD", "/containers/web/archive?path=/etc/hosts", "stat web /etc/hosts", 200},
		{"GET", "/containers/web/archive?path=/etc", "getarchive web /etc", 200},
		{"PUT", "/containers/web/archive?path=/x&noOverwriteDirNonDir=true&copyUIDGID=1", "putarchive web /x true true", 200},
	} {
		h, f := testDoor(testContainer(1, "web", container.Running))
		w := request(t, h, tc.method, tc.path, "")
		if w.Code != tc.status {
			t.Errorf("%s %s: status %d: %s", tc.method, tc.path, w.Code, w.Body)
		}
		if calls := f.noted(); len(calls) != 1 || calls[0] != tc.call {
			t.Errorf("%s %s: calls %q, want %q", tc.method, tc.path, calls, tc.call)
		}
	}
}

// TestClassesBecomeStatuses: what the services refuse reaches the client as
// status and sentence.
func TestClassesBecomeStatuses(t *testing.T) {
	h, f := testDoor(testContainer(1, "web", container.Running))
	for want, err := range map[int]error{
		404: cnm.NotFound("No such container: web"), 409: cnm.Conflict("in use"), 400: cnm.Invalid("bad"),
		503: cnm.Errorf(cnm.ErrUnavailable, "containerd is away"), 501: cnm.Unsupported("not yet: x"), 500: errors.New("disk on fire"),
	} {
		f.fail["start"] = err
		w := request(t, h, "POST", "/containers/web/start", "")
		var body struct{ Message string }
		if json.Unmarshal(w.Body.Bytes(), &body); w.Code != want || body.Message != err.Error() || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
	}
	f.fail["start"] = cnm.Errorf(cnm.ErrNotModified, "it runs already")
	if w := request(t, h, "POST", "/containers/web/start", ""); w.Code != 304 || w.Body.Len() != 0 {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestBadRequests(t *testing.T) {
	h, f := testDoor(testContainer(1, "web", container.Running))
	for _, tc := range []struct {
		method, path, body string
		status             int
		words              string
	}{
		{"POST", "/containers/web/stop?t=soon", "", 400, "t: it must be a whole number"},
		{"POST", "/containers/web/resize?h=1", "", 400, "for w"},
		{"POST", "/containers/web/resize?h=70000&w=1", "", 400, "65535"},
		{"POST", "/containers/web/resize?h=-1&w=1", "", 400, "65535"},
		{"POST", "/containers/web/start", `{"Binds":[]}`, 400, "non-empty request body"},
		{"POST", "/containers/web/start?checkpoint=a", "", 501, "checkpoints"},
		{"POST", "/containers/web/wait?condition=never", "", 400, "not-running, next-exit, removed"},
		{"GET", "/containers/web/logs", "", 400, "at least one stream"},
		{"GET", "/containers/web/logs?stdout=1&since=x", "", 400, "since"},
		{"GET", "/containers/web/stats?stream=1&one-shot=1", "", 400, "cannot have stream=true and one-shot=true"},
		{"GET", "/containers/absent/stats", "", 404, "No such container: absent"},
		{"POST", "/commit", "", 400, "names no container"},
		{"POST", "/commit?container=web&tag=1", "", 400, "no repo"},
		{"POST", "/commit?container=web&repo=A%20B&tag=1", "", 400, "invalid reference format"},
		{"POST", "/containers/web/update", ``, 400, "nothing to update"},
		{"POST", "/containers/web/update", `{"Memory":"1g"}`, 400, "Memory must be a number"},
		{"GET", "/images/get", "", 400, "no image to save"},
		{"GET", "/images/get?names=box&names=absent", "", 404, "No such image: absent"},
		{"GET", "/images/box/get?platform={}", "", 400, "os and architecture"},
		{"POST", "/images/absent/push?tag=1", "", 404, "does not exist locally with the tag: absent:1"},
		{"POST", "/images/other/push", "", 404, "does not exist locally with the tag: other"},
		{"GET", "/distribution/absent/json", "", 404, "manifest unknown"},
		{"POST", "/containers/web/attach?detachKeys=ctrl-1", "", 400, "detach keys"},
		{"POST", "/containers/absent/attach", "", 404, "No such container: absent"},
		{"POST", "/containers/web/exec", `{}`, 400, "no exec command specified"},
		{"POST", "/containers/absent/exec", `{"Cmd":["a"]}`, 404, "No such container"},
		{"POST", "/containers/create", `{"Image":`, 400, "ends in the middle"},
		{"POST", "/containers/create", `{"Image":"box"}{}`, 400, "unexpected content after JSON"},
		{"POST", "/containers/create", `[]`, 400, "invalid JSON"},
		{"POST", "/containers/create", `{"Image":5}`, 400, "must be a string, not number"},
		{"POST", "/containers/create", `{"Image":"box","HostConfig":{"Memory":"1g"}}`, 400, "HostConfig.Memory must be a number (int64), not string"},
		{"POST", "/containers/create", `{"Image":"box","Env":"A=b"}`, 400, "Env must be a list, not string"},
		{"POST", "/containers/create", `{"Image":"box","HostConfig":{"PortBindings":{"99999/tcp":[]}}}`, 400, "99999"},
		{"POST", "/containers/create", `{"Image":"box","HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"300.1.1.1"}]}}}`, 400, "300.1.1.1"},
		{"POST", "/containers/create", `{"Image":"box","HostConfig":{"Dns":["nowhere"]}}`, 400, "nowhere"},
		{"POST", "/containers/create", `{"Image":"box","NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"zz"}}}}`, 400, "zz"},
		{"POST", "/containers/create", `{"Image":"box","MacAddress":"zz"}`, 400, "invalid MAC address: zz"},
		{"POST", "/containers/create", `{"Image":"box","MacAddress":"02:00:00:00:00:01","HostConfig":{"NetworkMode":"host"}}`, 400, "conflicting options"},
		{"POST", "/v1.43/containers/create", `{"Image":"box","NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}`, 400, "multiple network endpoints"},
		{"POST", "/containers/create", `{"Image":"absent"}`, 404, "No such image: absent:latest"},
		{"POST", "/networks/create", `{"Name":""}`, 400, "name is empty"},
		{"POST", "/networks/create", `{"Name":"bridge"}`, 403, "predefined bridge network"},
		{"POST", "/networks/create", ``, 400, "got EOF"},
		{"POST", "/networks/create", `{"Name":"a","IPAM":{"Config":[{"Subnet":"172.25.0.0"}]}}`, 400, "invalid subnet 172.25.0.0: it must be an address with a length"},
		{"POST", "/networks/create", `{"Name":"a","IPAM":{"Config":[{"Gateway":"172.25.0.1/16"}]}}`, 400, "invalid gateway 172.25.0.1/16: it must be an address without a length: 172.25.0.1"},
		{"POST", "/networks/create", `{"Name":"a","IPAM":{"Config":[{"IPRange":"x"}]}}`, 400, "invalid ip-range x"},
		{"POST", "/networks/create", `{"Name":"a","IPAM":{"Config":[{"AuxiliaryAddresses":{"host":"x"}}]}}`, 400, "invalid aux-address host x"},
		{"DELETE", "/networks/bridge", "", 403, "bridge is a pre-defined network and cannot be removed"},
		{"DELETE", "/networks/nonet", "", 404, "network nonet not found"},
		{"POST", "/networks/bridge/connect", `{}`, 400, "names no container"},
		{"POST", "/networks/bridge/connect", `{"Container":"web","EndpointConfig":{"IPAMConfig":{"IPv4Address":"300.1.1.1"}}}`, 400, "300.1.1.1"},
		{"POST", "/networks/bridge/disconnect", `{}`, 400, "names no container"},
		{"POST", "/networks/nonet/disconnect", `{"Container":"web"}`, 404, "network nonet not found"},
		{"POST", "/networks/bridge/connect", `{"Container":"absent"}`, 404, "No such container: absent"},
		{"POST", "/networks/nonet/connect", `{"Container":"web"}`, 404, "network nonet not found"},
		{"GET", "/networks/bridge?scope=swarm", "", 404, "network bridge not found"},
		{"GET", `/networks?filters={"dangling":{"x":true}}`, "", 400, "dangling=x"},
		{"POST", `/containers/prune?filters={"name":{"x":true}}`, "", 400, "invalid filter 'name'"},
		{"GET", `/containers/json?filters={"before":{"absent":true}}`, "", 404, "No such container: absent"},
		{"GET", `/containers/json?filters={"publish":{"a:b":true}}`, "", 400, "should not contain"},
		{"GET", `/containers/json?filters={"expose":{"x":true}}`, "", 400, "expose"},
		{"GET", `/containers/json?filters={"health":{"ill":true}}`, "", 400, "health=ill"},
	} {
		w := request(t, h, tc.method, strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22").Replace(tc.path), tc.body)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.words) {
			t.Errorf("%s %s %s:\n%d %s, want %d %q", tc.method, tc.path, tc.body, w.Code, w.Body, tc.status, tc.words)
		}
	}
	for _, c := range f.noted() {
		if !strings.HasPrefix(c, "canattach") && !strings.HasPrefix(c, "create") {
			t.Errorf("a refused request reached the engine: %s", c)
		}
	}
}

// TestNotYet: every endpoint of later work says 501, what, and why.
func TestNotYet(t *testing.T) {
	h, _ := testDoor(testContainer(1, "web", container.Running))
	for _, what := range []string{
		"GET /containers/web/attach/ws", "POST /build", "POST /session", "POST /grpc", "POST /plugins/pull", "POST /plugins/a/enable", "POST /swarm/init", "POST /swarm/join",
		"DELETE /plugins/a/b", "POST /auth",
	} {
		method, path, _ := strings.Cut(what, " ")
		w := request(t, h, method, path, "")
		var body struct{ Message string }
		_ = json.Unmarshal(w.Body.Bytes(), &body)
		if w.Code != 501 || !strings.HasPrefix(body.Message, "not yet: ") || len(body.Message) < 40 {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
	if w := request(t, h, "GET", "/containers/absent/attach/ws", ""); w.Code != 404 {
		t.Errorf("attach of an unknown container: %d", w.Code)
	}
}

func TestContentType(t *testing.T) {
	h, _ := testDoor()
	for ct, want := range map[string]string{
		"":                                "malformed Content-Type header ()",
		"text/plain":                      "unsupported Content-Type header (text/plain): must be 'application/json'",
		"application/json; charset=utf-8": "",
		"application/json":                "",
	} {
		r := httptest.NewRequest("POST", "/containers/create", strings.NewReader(`{"Image":"box"}`))
		if ct != "" {
			r.Header.Set("Content-Type", ct)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if want == "" && w.Code != 201 || want != "" && (w.Code != 400 || !strings.Contains(w.Body.String(), want)) {
			t.Errorf("%q: %d %s", ct, w.Code, w.Body)
		}
	}
}

func TestOversizedJSON(t *testing.T) {
	h, f := testDoor()
	big := `{"Image":"box","Env":["` + strings.Repeat("x", maxJSON) + `"]}`
	// With a length, and without (chunked).
	for _, length := range []int64{int64(len(big)), -1} {
		r := httptest.NewRequest("POST", "/containers/create", strings.NewReader(big))
		r.ContentLength = length
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 413 || !strings.Contains(w.Body.String(), "at most 4194304 bytes") {
			t.Errorf("length %d: %d %.200s", length, w.Code, w.Body)
		}
	}
	r := httptest.NewRequest("POST", "/containers/create", strings.NewReader(`{"Image":"box"}`+strings.Repeat(" ", maxJSON)))
	r.ContentLength = -1
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 413 {
		t.Errorf("a long tail: %d", w.Code)
	}
	if len(f.noted()) != 0 {
		t.Errorf("calls %q", f.noted())
	}
}

// TestCreateTranslates: the wish arrives as it was sent, whatever the version.
func TestCreateTranslates(t *testing.T) {
	h, f := testDoor()
	w := request(t, h, "POST", "/v1.50/containers/create?name=shop&platform=linux/amd64", `{
		"Image":"box","Cmd":["sleep","1"],"Labels":{"a":"b"},"ExposedPorts":{"80":{},"53/udp":{}},"Unknown":{"of":"the future"},
		"HostConfig":{"NetworkMode":"bridge","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8000-8010"},{"HostIp":"::1","HostPort":""}]},
			"Mounts":[{"Type":"volume","Source":"v","Target":"/v"}],"MemorySwappiness":-1,"Ulimits":[{"Name":"nofile","Hard":2,"Soft":1}],
			"ConsoleSize":[24,80],"Dns":["1.1.1.1"],"RestartPolicy":{"Name":"always"}},
		"NetworkingConfig":{"EndpointsConfig":{"bridge":{"Aliases":["x"],"MacAddress":"02:00:00:00:00:01","IPAMConfig":{"IPv4Address":"172.17.0.9"}},"other":null}}}`)
	if w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var answer apicontainer.CreateResponse
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || len(answer.ID) != 64 || answer.Warnings == nil {
		t.Errorf("%v %s", err, w.Body)
	}
	r := f.created
	checks := map[string]bool{
		"name":      r.Name == "shop" && r.Platform == "linux/amd64",
		"ports":     len(r.Config.ExposedPorts) == 2,
		"bindings":  len(r.HostConfig.PortBindings) == 1,
		"mounts":    len(r.HostConfig.Mounts) == 1 && r.HostConfig.Mounts[0].Type == mount.TypeVolume,
		"console":   r.HostConfig.ConsoleSize == [2]uint{24, 80},
		"dns":       len(r.HostConfig.DNS) == 1,
		"endpoints": len(r.Networks) == 2 && r.Networks["other"] != nil && r.Networks["bridge"].MacAddress.String() == "02:00:00:00:00:01",
		"address":   r.Networks["bridge"].IPAMConfig.IPv4Address.String() == "172.17.0.9",
	}
	for what, ok := range checks {
		if !ok {
			t.Errorf("%s: %+v %+v", what, r, r.HostConfig)
		}
	}
}

func TestCreateOlderVersions(t *testing.T) {
	mac := `{"Image":"box","MacAddress":"02:00:00:00:00:01","HostConfig":{"NetworkMode":"%s","ConsoleSize":[1,2],"PidsLimit":0}}`
	for _, tc := range []struct {
		version, mode, key, cgroupns, ipc string
		warnings, console                 int
	}{
		{"1.24", "default", "default", "host", "shareable", 0, 0},
		{"1.40", "bridge", "bridge", "host", "", 0, 0},
		{"1.41", "", "default", "", "", 0, 0},
		{"1.44", "default", "default", "", "", 1, 1},
		{"1.51", "default", "default", "", "", 1, 1},
	} {
		h, f := testDoor()
		w := request(t, h, "POST", "/v"+tc.version+"/containers/create", fmt.Sprintf(mac, tc.mode))
		var answer apicontainer.CreateResponse
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 201 {
			t.Fatalf("%s: %v %s", tc.version, err, w.Body)
		}
		ep, hc := f.created.Networks[tc.key], f.created.HostConfig
		if ep == nil || ep.MacAddress.String() != "02:00:00:00:00:01" || len(answer.Warnings) != tc.warnings {
			t.Errorf("%s: %+v %v", tc.version, f.created.Networks, answer.Warnings)
		}
		if string(hc.CgroupnsMode) != tc.cgroupns || string(hc.IpcMode) != tc.ipc || int(hc.ConsoleSize[0]) != tc.console {
			t.Errorf("%s: %+v", tc.version, hc)
		}
	}
	h, f := testDoor()
	w := request(t, h, "POST", "/v1.51/containers/create", `{"Image":"box","MacAddress":"02:00:00:00:00:01","HostConfig":{"NetworkMode":"bridge"},
		"NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"02:00:00:00:00:02"}}}}`)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "must match") || len(f.noted()) > 0 {
		t.Errorf("two addresses: %d %s", w.Code, w.Body)
	}
}

func TestListFilters(t *testing.T) {
	a, b, c := testContainer(1, "web", container.Running), testContainer(2, "db", container.Exited), testContainer(3, "old", container.Created)
	a.Config.Labels = map[string]string{"role": "front"}
	a.Config.ExposedPorts = portsOf(t, "8080/tcp")
	b.State.ExitCode = 3
	b.HostConfig.NetworkMode = "host"
	b.Mounts = []container.Mount{{Type: "volume", Name: "data", Destination: "/data"}}
	joined := testContainer(4, "side", container.Running)
	joined.HostConfig.NetworkMode, joined.Target = "container:web", a.ID
	_, sb := fullContainer(t)
	sb.Owner, sb.Members = a.ID, []string{a.ID, joined.ID}
	f := newFakeContainers(a, b, c, joined)
	h := New(testConfig(f, newFakeNetwork(sb)))
	for query, want := range map[string]string{
		"":                              "side web",
		"all=1":                         "side old db web",
		"limit=2":                       "side old",
		"limit=0":                       "side web",
		`filters={"status":["exited"]}`: "db",
		`filters={"status":["created","running"]}`:       "side old web",
		`all=1&filters={"name":["^d"]}`:                  "db",
		`all=1&filters={"name":["/db"]}`:                 "db",
		`filters={"name":["db"]}`:                        "",
		`all=1&filters={"id":["0002"]}`:                  "db",
		`all=1&filters={"exited":["3"]}`:                 "db",
		`all=1&filters={"exited":["0"]}`:                 "",
		`all=1&filters={"label":["role"]}`:               "web",
		`all=1&filters={"label":["role=back"]}`:          "",
		`all=1&filters={"volume":["data"]}`:              "db",
		`all=1&filters={"volume":["/data"]}`:             "db",
		`all=1&filters={"network":["host"]}`:             "db",
		`all=1&filters={"network":["bridge"]}`:           "old web",
		`all=1&filters={"network":["` + bridgeID + `"]}`: "old web",
		`all=1&filters={"before":["old"]}`:               "db web",
		`all=1&filters={"since":["db"]}`:                 "side old",
		`all=1&filters={"ancestor":["box"]}`:             "side old db web",
		`all=1&filters={"ancestor":["absent"]}`:          "",
		`filters={"publish":["8000/tcp"]}`:               "web",
		`filters={"publish":["8001-8010"]}`:              "web",
		`filters={"publish":["9000"]}`:                   "",
		`filters={"expose":["9000"]}`:                    "web",
		`filters={"expose":["8080"]}`:                    "web",
		`filters={"health":["none"]}`:                    "side web",
		`filters={"health":["healthy"]}`:                 "",
		`filters={"is-task":["true"]}`:                   "",
		`filters={"is-task":["false"]}`:                  "side web",
	} {
		w := request(t, h, "GET", "/containers/json?"+strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", "^", "%5E").Replace(query), "")
		var list []struct{ Names []string }
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
			t.Fatalf("%s: %s", query, w.Body)
		}
		var names []string
		for _, c := range list {
			names = append(names, strings.TrimPrefix(c.Names[0], "/"))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

func TestNetworkFilters(t *testing.T) {
	n := newFakeNetwork(&cnm.Sandbox{Endpoints: []cnm.Endpoint{{NetworkID: "u1"}}})
	n.networks = append(n.networks,
		&cnm.Network{ID: "u1", Name: "shop", Driver: "bridge", Labels: map[string]string{"a": "b"}},
		&cnm.Network{ID: "u2", Name: "shop2", Driver: "macvlan"})
	h := New(testConfig(newFakeContainers(), n))
	for filter, want := range map[string]string{
		`{}`:                     "bridge host none shop shop2",
		`{"type":["custom"]}`:    "shop shop2",
		`{"type":["builtin"]}`:   "bridge host none",
		`{"driver":["bridge"]}`:  "bridge shop",
		`{"name":["shop"]}`:      "shop shop2",
		`{"name":["^shop$"]}`:    "shop",
		`{"id":["u1"]}`:          "shop",
		`{"label":["a=b"]}`:      "shop",
		`{"scope":["swarm"]}`:    "",
		`{"scope":["local"]}`:    "bridge host none shop shop2",
		`{"dangling":["true"]}`:  "shop2",
		`{"dangling":["false"]}`: "bridge host none shop",
	} {
		w := request(t, h, "GET", "/networks?filters="+strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", "^", "%5E").Replace(filter), "")
		var list []struct{ Name string }
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
			t.Fatalf("%s: %s", filter, w.Body)
		}
		var names []string
		for _, n := range list {
			names = append(names, n.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
}

func TestPing(t *testing.T) {
	h, _ := testDoor()
	for _, method := range []string{"GET", "HEAD"} {
		w := request(t, h, method, "/_ping", "")
		for k, want := range map[string]string{
			"Api-Version": "1.51", "Docker-Experimental": "false", "Ostype": "linux", "Server": "Linkspan/0.1.0 (linux)",
			"Builder-Version": "1", "Swarm": "inactive", "Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache",
		} {
			if got := w.Header().Get(k); got != want {
				t.Errorf("%s %s: %q", method, k, got)
			}
		}
		if body := w.Body.String(); w.Code != 200 || (method == "GET") != (body == "OK") {
			t.Errorf("%s: %d %q", method, w.Code, body)
		}
	}
}

func TestPanicIsAnswered(t *testing.T) {
	h, _ := testDoor()
	h.(*server).routes["boom"] = []compiled{{route: get("/boom", func(*call) error { panic("oh") }), segments: []string{"boom"}}}
	w := request(t, h, "GET", "/boom", "")
	if w.Code != 500 || !strings.Contains(w.Body.String(), "internal error while serving GET /boom: oh") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestArchive(t *testing.T) {
	h, f := testDoor(testContainer(1, "web", container.Running))
	w := request(t, h, "HEAD", "/containers/web/archive?path=/etc/hosts", "")
	b, err := base64.StdEncoding.DecodeString(w.Header().Get(statHeader))
	if err != nil || !strings.Contains(string(b), `"name":"hosts","size":5,"mode":420,`) {
		t.Errorf("%v %s", err, b)
	}
	w = request(t, h, "GET", "/containers/web/archive?path=/etc", "")
	if w.Body.String() != "a tar" || w.Header().Get("Content-Type") != "application/x-tar" || w.Header().Get(statHeader) == "" {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
	if w = request(t, h, "PUT", "/containers/web/archive?path=/etc", "the bytes"); string(f.put) != "the bytes" {
		t.Errorf("%d %q", w.Code, f.put)
	}
	if w = request(t, h, "GET", "/containers/web/archive", ""); w.Code != 400 {
		t.Errorf("no path: %d", w.Code)
	}
}

func TestPrune(t *testing.T) {
	keep := testContainer(3, "keep", container.Exited)
	keep.Config.Labels = map[string]string{"keep": ""}
	h, f := testDoor(testContainer(1, "up", container.Running), testContainer(2, "down", container.Exited), keep)
	w := request(t, h, "POST", "/containers/prune?filters=%7B%22label!%22%3A%5B%22keep%22%5D%7D", "")
	if w.Code != 200 || len(f.noted()) != 2 || !strings.HasPrefix(f.noted()[1], "remove 0002") || !strings.Contains(w.Body.String(), `"SpaceReclaimed":11`) || !strings.Contains(w.Body.String(), `"ContainersDeleted":["0002`) {
		t.Errorf("%d %s %q", w.Code, w.Body, f.noted())
	}
	for _, path := range []string{"/networks/prune", "/build/prune"} {
		if w := request(t, h, "POST", path, ""); w.Code != 200 || strings.Contains(w.Body.String(), "null") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestDiskUsage(t *testing.T) {
	h, _ := testDoor(testContainer(1, "web", container.Running))
	w := request(t, h, "GET", "/system/df", "")
	if !strings.Contains(w.Body.String(), `"LayersSize":1048576`) || !strings.Contains(w.Body.String(), `"Containers":1`) || !strings.Contains(w.Body.String(), `"/web"`) {
		t.Errorf("%s", w.Body)
	}
	if !strings.Contains(w.Body.String(), `"SharedSize":4096`) {
		t.Errorf("%s", w.Body)
	}
	for query, want := range map[string]string{"": `"SharedSize":-1`, "?shared-size=1": `"SharedSize":4096`} {
		if w := request(t, h, "GET", "/images/json"+query, ""); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %s", query, w.Body)
		}
	}
	if w := request(t, h, "GET", "/system/df?type=container", ""); strings.Contains(w.Body.String(), "box:latest") {
		t.Errorf("%s", w.Body)
	}
}
