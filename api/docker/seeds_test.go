package docker

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/container"
)

// TestNetworkSettingsAsDocker18 renders what a Docker 18 showed of the five
// containers of the users' slides (testdata/docker-18). Docker has since added
// the second entry for a port that is published on every address.
func TestNetworkSettingsAsDocker18(t *testing.T) {
	files, _ := filepath.Glob("testdata/docker-18/*.json")
	if len(files) < 4 {
		t.Fatalf("only %d seeds", len(files))
	}
	may := map[string]string{
		"Ports.3306/tcp[1]": "the IPv6 half, since 20.10",
		"Ports.5432/tcp[1]": "the IPv6 half, since 20.10",
	}
	for _, file := range files {
		mode := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(mode, func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			r := recorded{Name: "/x"}
			r.Config, r.HostConfig = &recordedConfig{}, testContainer(1, "x", container.Running).HostConfig
			readJSONFile(t, file, &r.NetworkSettings)
			r.ID, r.State.Status = strings.Repeat("ab", 32), "running"
			for name := range r.NetworkSettings.Networks {
				r.HostConfig.NetworkMode = "default"
				if name != "bridge" {
					r.HostConfig.NetworkMode = "host"
				}
				if name == "none" {
					r.HostConfig.NetworkMode = "none"
				}
			}
			if len(r.NetworkSettings.Networks) == 0 {
				r.HostConfig.NetworkMode = "container:mysql"
			}
			for port, bindings := range r.NetworkSettings.Ports {
				if bindings == nil {
					r.Config.ExposedPorts = portsOf(t, port)
				}
			}
			c, sb := r.model(t)
			n := newFakeNetwork()
			if sb != nil {
				n.sandboxes = []*cnm.Sandbox{sb}
			}
			c.State.StartedAt = c.Created.AddDate(2018, 0, 0)
			s := &server{Config: testConfig(newFakeContainers(c), n)}
			got, err := json.Marshal(s.renderNetworkSettings(Version{1, 37}, c))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range differences(t, want, got) {
				if !allowed(may, "", d) {
					t.Error(d)
				}
			}
		})
	}
}
