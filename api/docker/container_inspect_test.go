package docker

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"linkspan/container"
)

// TestLogPath: where the log is, for a container that has one.
func TestLogPath(t *testing.T) {
	for _, tc := range []struct {
		driver  string
		started bool
		want    string
	}{
		{"json-file", true, "-json.log"},
		{"local", true, "-json.log"},
		{"none", true, ""},
		{"json-file", false, ""},
	} {
		ctr := testContainer(1, "web", container.Running)
		ctr.HostConfig.LogConfig.Type = tc.driver
		ctr.State.StartedAt = time.Time{}
		if tc.started {
			ctr.State.StartedAt = ctr.Created.Add(time.Second)
		}
		h, _ := testDoor(ctr)
		w := request(t, h, "GET", "/v1.51/containers/web/json", "")
		var got struct{ LogPath, HostsPath string }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatalf("%v: %d %s", err, w.Code, w.Body)
		}
		if !strings.HasSuffix(got.LogPath, tc.want) || (got.LogPath == "") != (tc.want == "") {
			t.Errorf("%+v: LogPath %q", tc, got.LogPath)
		}
		if (got.HostsPath != "") != tc.started {
			t.Errorf("%+v: HostsPath %q", tc, got.HostsPath)
		}
	}
}
