package docker

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"linkspan/container"
)

// FuzzCreate: whatever the body, the answer is JSON with a status below 500,
// and what reaches the engine can be read without looking twice.
func FuzzCreate(f *testing.F) {
	for _, s := range []string{
		`{"Image":"box"}`, `{}`, `null`, `[]`, `{`, `{"Image":null}`, `{"Image":"box","HostConfig":null,"NetworkingConfig":null}`,
		`{"Image":"box","NetworkingConfig":{"EndpointsConfig":{"bridge":null}}}`, `{"Image":"box","MacAddress":"02:00:00:00:00:01"}`,
		`{"Image":"box","HostConfig":{"PortBindings":{"80/tcp":null,"":[{}]}}}`, `{"Image":"box","ExposedPorts":{"1-2/tcp":{}}}`,
		`{"Image":"box","HostConfig":{"Ulimits":[null],"Devices":[{}],"Mounts":[{}],"DeviceRequests":[{}]}}`,
		"{\"Image\":\"\xff\xfe\"}", `{"Image":"box"}{"Image":"box"}`, `{"Image":"box","Healthcheck":{"Test":["NONE"],"Interval":-1}}`,
		strings.Repeat("[", 20000), `{"a":` + strings.Repeat(`{"a":`, 5000),
	} {
		f.Add("1.51", s)
		f.Add("1.24", s)
	}
	f.Fuzz(func(t *testing.T, version, body string) {
		door, fake := testDoor()
		w := fuzzed(t, door, version, "/containers/create", body)
		if w.Code == 201 {
			if fake.created.Config == nil || fake.created.HostConfig == nil {
				t.Fatalf("%q: %+v", body, fake.created)
			}
			for name, ep := range fake.created.Networks {
				if ep == nil {
					t.Fatalf("%q: endpoint %s is nil", body, name)
				}
			}
			// What was taken can be shown again.
			id := strings.Split(w.Body.String(), `"`)[3]
			if w := request(t, door, "GET", "/v1.41/containers/"+id+"/json", ""); w.Code != 200 || !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%q: inspect: %d %s", body, w.Code, w.Body)
			}
		}
	})
}

// FuzzFilters: any filter is taken or refused, on every list.
func FuzzFilters(f *testing.F) {
	for _, s := range []string{
		`{"name":{"web":true}}`, `{"name":["web"]}`, `{"name":["("]}`, `null`, `{"exited":["0"]}`, `{"status":["running"]}`, `{"before":["web"]}`,
		`{"publish":["1-65535/tcp"]}`, `{"expose":["1-0"]}`, `{"is-task":["x"]}`, `{"dangling":["true"]}`, `{"until":["1h"]}`, `{"label!":["a"]}`, `{"":[""]}`, `{"network":["bridge"]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, filter string) {
		c, sb := fullContainer(t)
		door := New(testConfig(newFakeContainers(c, testContainer(1, "web", container.Exited)), newFakeNetwork(sb)))
		for _, what := range []string{"GET /containers/json", "GET /networks", "POST /networks/prune", "POST /containers/prune"} {
			method, path, _ := strings.Cut(what, " ")
			w := request(t, door, method, path+"?all=1&filters="+url.QueryEscape(filter), "")
			if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%s with %q: %d %s", what, filter, w.Code, w.Body)
			}
		}
	})
}

// FuzzPath: no path and no method makes the door panic or answer 500.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "//", "/v1.41", "/v1.41//", "/containers/%2e%2e/json", "/images/a/b/c/json", "/v1.51/containers/a%2Fb/json", "/exec//start", "/plugins//json", "/%zz"} {
		f.Add("GET", s)
		f.Add("POST", s)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		u, err := url.Parse(path)
		if err != nil || strings.Contains(path, "events") || strings.Contains(path, "wait") {
			return // no request, or one that waits as it should
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL = method, u
		w := httptest.NewRecorder()
		door, _ := testDoor(testContainer(1, "web", container.Created))
		door.ServeHTTP(w, r)
		if w.Code == 500 && !strings.Contains(path, "attach") { // a recorder cannot be hijacked
			t.Fatalf("%s %s: %s", method, path, w.Body)
		}
	})
}

// FuzzNetworkCreate: whatever the body, it is refused in words or becomes a wish.
func FuzzNetworkCreate(f *testing.F) {
	for _, s := range []string{
		`{"Name":"a"}`, `{}`, `null`, `[]`, `{"Name":"a","IPAM":null}`, `{"Name":"a","IPAM":{"Config":null}}`, `{"Name":"a","IPAM":{"Config":[null,{}]}}`,
		`{"Name":"a","IPAM":{"Config":[{"Subnet":"172.25.0.0/16","Gateway":"172.25.0.1","IPRange":"x","AuxiliaryAddresses":{"":"1.1.1.1"}}]}}`,
		`{"Name":"a","EnableIPv4":null,"EnableIPv6":"yes"}`, `{"Name":"a","ConfigFrom":{}}`, `{"Name":"a","Options":{"a":1}}`, `{"Name":"a","Options":null,"Labels":{"a":null}}`,
		`{"Name":"a","IPAM":{"Config":[{"Subnet":"fe80::1%eth0/64"}]}}`,
	} {
		f.Add("1.51", s)
		f.Add("1.24", s)
	}
	f.Fuzz(func(t *testing.T, version, body string) {
		n := newFakeNetwork()
		door := New(testConfig(newFakeContainers(), n))
		w := fuzzed(t, door, version, "/networks/create", body)
		if w.Code == 201 && n.wish.Name == "" {
			t.Fatalf("%q: a network without a name", body)
		}
		if w := request(t, door, "GET", "/v1.41/networks", ""); w.Code != 200 || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%q: list: %d %s", body, w.Code, w.Body)
		}
	})
}

// fuzzed posts a body, whatever it is: the answer is JSON and no fault of ours.
func fuzzed(t *testing.T, door http.Handler, version, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.URL.Path, r.URL.RawPath = "/v"+version+path, ""
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	door.ServeHTTP(w, r)
	if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
		t.Fatalf("%q: %d %s", body, w.Code, w.Body)
	}
	return w
}
