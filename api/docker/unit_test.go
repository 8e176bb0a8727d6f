package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/events"
)

func TestNegotiate(t *testing.T) {
	for _, tc := range []struct {
		path, version, rest, err string
	}{
		{"/containers/json", "1.51", "/containers/json", ""},
		{"/v1.24/containers/json", "1.24", "/containers/json", ""},
		{"/v1.51/_ping", "1.51", "/_ping", ""},
		{"/v1.41/", "1.41", "/", ""},
		{"/v1.41", "1.41", "/", ""},
		{"/volumes/v1.2", "1.51", "/volumes/v1.2", ""}, // a name, not a version
		{"/version", "1.51", "/version", ""},
		{"/vx/info", "1.51", "/vx/info", ""},
		{"/v/info", "1.51", "/v/info", ""},
		{"/v1.52/info", "", "", "client version 1.52 is too new. Maximum supported API version is 1.51"},
		{"/v2/info", "", "", "client version 2 is too new. Maximum supported API version is 1.51"},
		{"/v1.99999999999999999999/info", "", "", "client version 1.99999999999999999999 is too new. Maximum supported API version is 1.51"},
		{"/v1.23/info", "", "", "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"/v1/info", "", "", "client version 1 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"/v.../info", "", "", "client version ... is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
	} {
		v, rest, err := negotiate(tc.path)
		if tc.err != "" {
			if err == nil || err.Error() != tc.err || status(err) != 400 {
				t.Errorf("%s: %v, want %s", tc.path, err, tc.err)
			}
			continue
		}
		if err != nil || v.String() != tc.version || rest != tc.rest {
			t.Errorf("%s: %s %s %v", tc.path, v, rest, err)
		}
	}
}

func TestRouter(t *testing.T) {
	var got string
	name := func(n string) handler { return func(*call) error { got = n; return nil } }
	rt := newRouter([]route{
		get("/images/json", name("list")),
		get("/images/{name...}/json", name("inspect")),
		del("/images/{name...}", name("remove")),
		get("/containers/{id}/json", name("container")),
		get("/networks", name("networks")),
		get("/networks/{id}", name("network")),
	})
	for _, tc := range []struct{ method, path, want, vars string }{
		{"GET", "/images/json", "list", "map[]"},
		{"GET", "/images/nginx/json", "inspect", "map[name:nginx]"},
		{"GET", "/images/library/nginx:1/json", "inspect", "map[name:library/nginx:1]"},
		{"GET", "/images/library%2Fnginx/json", "inspect", "map[name:library/nginx]"},
		{"GET", "/images/127.0.0.1:5000/a/json/json", "inspect", "map[name:127.0.0.1:5000/a/json]"},
		{"DELETE", "/images/a/b", "remove", "map[name:a/b]"},
		{"GET", "/containers/web/json", "container", "map[id:web]"},
		{"GET", "/containers/%2Fweb/json", "container", "map[id:/web]"},
		{"GET", "/networks/", "networks", "map[]"},
		{"GET", "/networks/x", "network", "map[id:x]"},
		{"GET", "/containers//json", "", ""},
		{"GET", "/containers/a/b/json", "", ""},
		{"POST", "/networks/x", "", ""},
		{"GET", "/", "", ""},
		{"GET", "", "", ""},
		{"GET", "/images/json/", "list", "map[]"},
	} {
		got = ""
		h, vars := rt.find(tc.method, tc.path)
		if (h == nil) != (tc.want == "") {
			t.Errorf("%s %s: found %v", tc.method, tc.path, h != nil)
			continue
		}
		if h == nil {
			continue
		}
		if _ = h(nil); got != tc.want || fmt.Sprint(vars) != tc.vars {
			t.Errorf("%s %s: %s %v, want %s %s", tc.method, tc.path, got, vars, tc.want, tc.vars)
		}
	}
}

func TestStatusOfClasses(t *testing.T) {
	cause := cnm.NotFound("no such file")
	for want, err := range map[int]error{
		404: cnm.NotFound("x"),
		409: fmt.Errorf("starting web: %w", cnm.Conflict("the name is taken")),
		400: cnm.Invalid("bad mount: %w", cause), // the outer class counts
		503: cnm.Errorf(cnm.ErrUnavailable, "containerd is away: %w", errors.New("dial")),
		501: cnm.Unsupported("not yet"),
		403: cnm.Errorf(cnm.ErrForbidden, "no"),
		304: cnm.Errorf(cnm.ErrNotModified, "already"),
		500: errors.Join(errors.New("a"), errors.New("b")),
		499: fmt.Errorf("x: %w", context.Canceled),
		504: context.DeadlineExceeded,
		413: fmt.Errorf("large: %w", &http.MaxBytesError{Limit: 1}),
	} {
		if got := status(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
	if got := status(errors.Join(errors.New("a"), cause)); got != 404 {
		t.Errorf("a joined class was lost: %d", got)
	}
	if got := status(cnm.Errorf(cnm.ErrExhausted, "pool: %w", cause)); got != 500 {
		t.Errorf("exhausted: %d", got)
	}
}

func TestFilters(t *testing.T) {
	f, err := parseFilters(`{"name":{"web":true,"^db$":true},"label":{"a":true,"b=c":true},"id":{"0a":true}}`)
	if err != nil {
		t.Fatal(err)
	}
	for i, ok := range []bool{
		f.Match("name", "myweb1"), f.Match("name", "db"), !f.Match("name", "db2"), f.Match("absent", "x"),
		f.Labels("label", map[string]string{"a": "", "b": "c"}), !f.Labels("label", map[string]string{"a": "", "b": "d"}),
		!f.Labels("label", nil), f.Labels("absent", nil),
		f.Prefix("id", "0abc"), !f.Prefix("id", "1abc"), f.Exact("id", "0a"), !f.Exact("id", "0abc"),
		f.Only("name", "label", "id") == nil,
	} {
		if !ok {
			t.Errorf("expectation %d fails", i)
		}
	}
	if err := f.Only("name", "label"); err == nil || err.Error() != "invalid filter 'id'" || status(err) != 400 {
		t.Errorf("%v", err)
	}
	old, err := parseFilters(`{"name":["web","db"]}`)
	if err != nil || fmt.Sprint(old.Values("name")) != "[db web]" {
		t.Errorf("the old form: %v %v", old, err)
	}
	for _, bad := range []string{"x", `[]`, `{"a":1}`, `{"a":{"b":1}}`, `{"a":[1]}`, `"a"`} {
		if _, err := parseFilters(bad); err == nil || status(err) != 400 || !strings.HasPrefix(err.Error(), "invalid filter") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, empty := range []string{"", "null", "{}", `{"a":null}`, `{"a":{}}`, `{"a":[]}`} {
		if f, err := parseFilters(empty); err != nil || f.Has("a") || !f.Match("a", "x") {
			t.Errorf("%s: %v %v", empty, f, err)
		}
	}
	broken, _ := parseFilters(`{"name":{"(":true}}`)
	if broken.Match("name", "x") || !broken.Match("name", "(") {
		t.Error("a value that is no expression must match itself only")
	}
}

func TestFilterBool(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                               "true <nil>",
		`{"d":{"true":true}}`:              "true <nil>",
		`{"d":{"1":true}}`:                 "true <nil>",
		`{"d":{"0":true}}`:                 "false <nil>",
		`{"d":["false"]}`:                  "false <nil>",
		`{"d":{"maybe":true}}`:             "true invalid filter 'd=maybe'",
		`{"d":{"true":true,"false":true}}`: "true invalid filter 'd=false,true'",
	} {
		f, _ := parseFilters(in)
		b, err := f.Bool("d", true)
		if got := fmt.Sprint(b, " ", err); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestEventFilter(t *testing.T) {
	start := events.Event{Type: "container", Action: "start", ID: "abc123", Attributes: map[string]string{"name": "web", "image": "nginx:1", "role": "x"}}
	exec := events.Event{Type: "container", Action: "exec_create: sh -c x", ID: "abc123", Attributes: map[string]string{"name": "web", "image": "nginx:1"}}
	pull := events.Event{Type: "image", Action: "pull", ID: "127.0.0.1:5000/nginx:1", Attributes: map[string]string{"name": "127.0.0.1:5000/nginx"}}
	for _, tc := range []struct {
		filter string
		e      events.Event
		want   bool
	}{
		{`{}`, start, true},
		{`{"type":{"container":true}}`, start, true},
		{`{"type":{"network":true}}`, start, false},
		{`{"container":{"web":true}}`, start, true},
		{`{"container":{"abc":true}}`, start, true},
		{`{"container":{"db":true}}`, start, false},
		{`{"event":{"start":true,"die":true}}`, start, true},
		{`{"event":{"die":true}}`, start, false},
		{`{"event":{"sta":true}}`, start, false},
		{`{"event":{"exec_create":true}}`, exec, true},
		{`{"image":{"nginx":true}}`, start, true},
		{`{"image":{"nginx:1":true}}`, start, true},
		{`{"image":{"nginx:2":true}}`, start, false},
		{`{"image":{"127.0.0.1:5000/nginx":true}}`, pull, true},
		{`{"label":{"role=x":true}}`, start, true},
		{`{"label":{"role=y":true}}`, start, false},
		{`{"scope":{"local":true}}`, start, true},
		{`{"scope":{"swarm":true}}`, start, false},
	} {
		f, err := parseFilters(tc.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.event(tc.e); got != tc.want {
			t.Errorf("%s on %s: %v", tc.filter, tc.e.Action, got)
		}
	}
}

func TestParseTime(t *testing.T) {
	for in, want := range map[string]string{
		"1136073600":           "2006-01-01T00:00:00Z",
		"1136073600.000000001": "2006-01-01T00:00:00.000000001Z",
		"1136073600.5":         "2006-01-01T00:00:00.5Z",
		"2006-01-02T15:04:05Z": "2006-01-02T15:04:05Z",
	} {
		got, err := parseTime("since", in)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%s: %v %v", in, got, err)
		}
	}
	if z, err := parseTime("since", ""); err != nil || !z.IsZero() {
		t.Errorf("empty: %v %v", z, err)
	}
	for _, bad := range []string{"foo", "1.x", "1.-1", "10m", "."} {
		if _, err := parseTime("since", bad); err == nil || status(err) != 400 || !strings.Contains(err.Error(), "since") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	for _, ok := range []string{"", "a", "ctrl-p,ctrl-q", "ctrl-@", "ctrl-[,a,ctrl-_", "ctrl-\\", "ctrl-]", "ctrl-^"} {
		if err := checkDetachKeys(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"ctrl-A", "ctrl-", "ab", "a,", ",,a", "ctrl-p ctrl-q", "ctrl-1", "shift-a"} {
		if err := checkDetachKeys(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestQueryBool(t *testing.T) {
	for in, want := range map[string]bool{"": false, "a=": false, "a=0": false, "a=False": false, "a=no": false, "a=none": false, "a=1": true, "a=true": true, "a=x": true} {
		c := &call{R: &http.Request{URL: &url.URL{RawQuery: in}}}
		if c.Bool("a") != want {
			t.Errorf("%q", in)
		}
	}
}

func TestPruneRules(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		filter string
		age    time.Duration
		labels map[string]string
		want   bool
	}{
		{`{}`, 0, nil, true},
		{`{"until":{"1h":true}}`, 2 * time.Hour, nil, true},
		{`{"until":{"1h":true}}`, time.Minute, nil, false},
		{`{"label":{"a":true}}`, 0, map[string]string{"a": "1"}, true},
		{`{"label":{"a":true}}`, 0, nil, false},
		{`{"label!":{"keep":true}}`, 0, map[string]string{"keep": ""}, false},
		{`{"label!":{"keep":true}}`, 0, nil, true},
	} {
		f, _ := parseFilters(tc.filter)
		goes, err := f.pruneRules()
		if err != nil {
			t.Fatal(err)
		}
		if goes(now.Add(-tc.age), tc.labels) != tc.want {
			t.Errorf("%+v", tc)
		}
	}
	for _, bad := range []string{`{"until":{"1h":true,"2h":true}}`, `{"until":{"x":true}}`, `{"foo":{"x":true}}`} {
		f, _ := parseFilters(bad)
		if _, err := f.pruneRules(); err == nil || status(err) != 400 {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestStripTag(t *testing.T) {
	for in, want := range map[string]string{"nginx": "nginx", "nginx:1": "nginx", "h:5000/n": "h:5000/n", "h:5000/n:1": "h:5000/n", "n@sha256:ab": "n", "": ""} {
		if got := stripTag(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestFrame(t *testing.T) {
	if got := frame(2, []byte("ab")); !bytes.Equal(got, []byte{2, 0, 0, 0, 0, 0, 0, 2, 'a', 'b'}) {
		t.Errorf("%v", got)
	}
}

func TestHostFacts(t *testing.T) {
	f := HostFacts()
	if f.Name == "" || f.KernelVersion == "" || f.Arch == "" || f.NCPU < 1 || f.MemTotal < 1<<20 || f.CgroupVersion == "" {
		t.Errorf("%+v", f)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "os-release")
	if err := os.WriteFile(file, []byte("# a comment\nPRETTY_NAME=\"Some Linux 3\"\nVERSION_ID='3'\n\nID=some\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m := osRelease(file); m["PRETTY_NAME"] != "Some Linux 3" || m["VERSION_ID"] != "3" || m["ID"] != "some" {
		t.Errorf("%v", m)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("cpuset cpu memory pids\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var v2 Facts
	if v2.cgroups(dir); v2.CgroupVersion != "2" || !v2.MemoryLimit || !v2.CPUSet || !v2.PidsLimit || v2.OomKillDisable {
		t.Errorf("%+v", v2)
	}
}
