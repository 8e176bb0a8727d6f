package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/container"

	apicontainer "github.com/moby/moby/api/types/container"
)

func statsOf(t *testing.T, b []byte) (list []apicontainer.StatsResponse) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(b)))
	for dec.More() {
		var s apicontainer.StatsResponse
		if err := dec.Decode(&s); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		list = append(list, s)
	}
	return list
}

// TestStatsOnce: a single answer carries the sample before it, so that a client
// can compute a percentage; one-shot does not wait for that.
func TestStatsOnce(t *testing.T) {
	h, f := testDoor(testContainer(1, "web", container.Running), testContainer(2, "down", container.Exited))
	begun := time.Now()
	w := request(t, h, "GET", "/containers/web/stats?stream=0", "")
	if s := statsOf(t, w.Body.Bytes()); len(s) != 1 || s[0].Name != "/web" || s[0].PreCPUStats.CPUUsage.TotalUsage != 1e9 || s[0].CPUStats.CPUUsage.TotalUsage != 2e9 ||
		!s[0].PreRead.Equal(time.Unix(1, 0)) || s[0].Networks["eth0"].RxBytes != 7 {
		t.Errorf("%s", w.Body)
	}
	if d := time.Since(begun); d < 900*time.Millisecond {
		t.Errorf("the two samples are %s apart", d)
	}
	begun = time.Now()
	w = request(t, h, "GET", "/containers/web/stats?stream=0&one-shot=1", "")
	if s := statsOf(t, w.Body.Bytes()); len(s) != 1 || s[0].PreCPUStats.CPUUsage.TotalUsage != 0 || s[0].CPUStats.CPUUsage.TotalUsage != 3e9 {
		t.Errorf("%s", w.Body)
	}
	w = request(t, h, "GET", "/containers/down/stats?stream=0", "")
	if s := statsOf(t, w.Body.Bytes()); len(s) != 1 || s[0].Name != "/down" || !s[0].Read.IsZero() {
		t.Errorf("%s", w.Body)
	}
	t.Logf("one-shot and a stopped one took %s", time.Since(begun))
	f.fail["stats"] = cnm.Errorf(cnm.ErrUnavailable, "containerd is away")
	if w := request(t, h, "GET", "/containers/web/stats?stream=0", ""); w.Code != 503 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestStatsStream: one sample a second, each with the one before it, until the
// reader goes or the container is removed.
func TestStatsStream(t *testing.T) {
	h, f := testDoor(testContainer(1, "web", container.Running))
	srv := httptest.NewServer(h)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+"/containers/web/stats", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	var last uint64
	for i := range 3 {
		if !lines.Scan() {
			t.Fatal("the stream ended")
		}
		s := statsOf(t, lines.Bytes())[0]
		if s.PreCPUStats.CPUUsage.TotalUsage != last || s.CPUStats.CPUUsage.TotalUsage != last+1e9 {
			t.Errorf("sample %d: %+v after %d", i, s.CPUStats, last)
		}
		last = s.CPUStats.CPUUsage.TotalUsage
	}
	if err := f.Remove(ctx, "web", container.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil || ctx.Err() != nil {
		t.Errorf("the stream of a removed container: %v", err)
	}
}

func TestCommit(t *testing.T) {
	h, f := testDoor(testContainer(1, "web", container.Running))
	w := request(t, h, "POST", "/commit?container=web&repo=127.0.0.1:5000/shop&tag=2&comment=why&author=me&pause=0&changes=CMD%20sh&changes=ENV%20A=b", `{"Cmd":["sleep"]}`)
	if w.Code != 201 || !strings.Contains(w.Body.String(), `{"Id":"`+testImageID+`"}`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	o := f.committed
	if o.Repo != "127.0.0.1:5000/shop" || o.Tag != "2" || o.Comment != "why" || o.Author != "me" || o.Pause || fmt.Sprint(o.Changes) != "[CMD sh ENV A=b]" || o.Config == nil || o.Config.Cmd[0] != "sleep" {
		t.Errorf("%+v", o)
	}
	for _, body := range []string{"", "null"} {
		if w := request(t, h, "POST", "/commit?container=web", body); w.Code != 201 || !f.committed.Pause || f.committed.Config != nil {
			t.Errorf("%q: %d %+v", body, w.Code, f.committed)
		}
	}
}

func TestUpdate(t *testing.T) {
	h, f := testDoor(testContainer(1, "web", container.Running))
	body := `{"Memory":67108864,"PidsLimit":5,"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}}`
	w := request(t, h, "POST", "/containers/web/update", body)
	if u := f.updated; w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"Warnings":null}` || u.Memory != 64<<20 || *u.PidsLimit != 5 || u.RestartPolicy.MaximumRetryCount != 3 {
		t.Errorf("%d %s %+v", w.Code, w.Body, u)
	}
	if request(t, h, "POST", "/v1.39/containers/web/update", body); f.updated.PidsLimit != nil {
		t.Error("1.39 has no pids limit")
	}
}

// TestPushLines: the digest comes as a line for people and as aux for programs,
// and an error after the first line is the last line.
func TestPushLines(t *testing.T) {
	h, _ := testDoor()
	w := request(t, h, "POST", "/images/127.0.0.1:5000/box/push?tag=1.0", "")
	for _, want := range []string{
		`{"status":"The push refers to repository [127.0.0.1:5000/box:1.0]"}`,
		`{"status":"Pushing","progressDetail":{"current":5,"total":10},"id":"0a1b2c3d4e5f"}`,
		`{"status":"1.0: digest: ` + testImageID + ` size: 1234"}`,
		`{"progressDetail":{},"aux":{"Tag":"1.0","Digest":"` + testImageID + `","Size":1234}}`,
	} {
		if !slices.Contains(strings.Split(w.Body.String(), "\n"), want) {
			t.Errorf("no %s in\n%s", want, w.Body)
		}
	}
	w = request(t, h, "POST", "/images/forbidden/push?tag=1", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"errorDetail":{"message":"denied: requested access to the resource is denied"},"error":"denied`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestOnePlatform(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "linux/arm64": "linux/arm64", `{"os":"linux","architecture":"arm","variant":"v7"}`: "linux/arm/v7", `{"os":"linux","architecture":"amd64"}`: "linux/amd64",
	} {
		if got, err := onePlatform(in); err != nil || got != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{`{"os":`, `{"os":"linux"}`, `{}`} {
		if got, err := onePlatform(bad); err == nil || status(err) != 400 {
			t.Errorf("%s: %q, %v", bad, got, err)
		}
	}
}

// TestHealth: in inspect, behind the status, and as a filter.
func TestHealth(t *testing.T) {
	at := time.Date(2026, 11, 21, 5, 0, 0, 0, time.UTC)
	ill, young, well, none := testContainer(1, "ill", container.Running), testContainer(2, "young", container.Running), testContainer(3, "well", container.Paused), testContainer(4, "none", container.Running)
	ill.State.Health = &container.Health{Status: apicontainer.Unhealthy, FailingStreak: 3, Log: []*apicontainer.HealthcheckResult{{Start: at, End: at.Add(time.Second), ExitCode: 1, Output: "refused"}}}
	young.State.Health = &container.Health{Status: apicontainer.Starting}
	well.State.Health = &container.Health{Status: apicontainer.Healthy}
	h, _ := testDoor(ill, young, well, none)
	w := request(t, h, "GET", "/v1.41/containers/ill/json", "")
	if !strings.Contains(w.Body.String(), `"Health":{"Status":"unhealthy","FailingStreak":3,"Log":[{"Start":"2026-11-21T05:00:00Z","End":"2026-11-21T05:00:01Z","ExitCode":1,"Output":"refused"}]}`) {
		t.Errorf("%s", w.Body)
	}
	if w := request(t, h, "GET", "/containers/none/json", ""); strings.Contains(w.Body.String(), `"Health":`) {
		t.Errorf("%s", w.Body)
	}
	for health, want := range map[string][2]string{
		"unhealthy": {"/ill", " (unhealthy)"}, "starting": {"/young", " (health: starting)"}, "healthy": {"/well", " (Paused)"}, "none": {"/none", "ago"},
	} {
		w := request(t, h, "GET", "/containers/json?filters=%7B%22health%22%3A%5B%22"+health+"%22%5D%7D", "")
		var list []apicontainer.Summary
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != 1 || list[0].Names[0] != want[0] || health != "none" && !strings.HasSuffix(list[0].Status, want[1]) {
			t.Errorf("%s: %s", health, w.Body)
		}
	}
}
