package docker

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"linkspan/container"
	"linkspan/events"
	"linkspan/probe"
)

// docker runs the real docker CLI against a socket; the wire itself is covered
// without it.
func docker(t *testing.T, sock string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	probe.Require(t, probe.DockerCLI)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+sock, "DOCKER_CONFIG="+t.TempDir(), "DOCKER_API_VERSION=")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); ctx.Err() != nil {
		t.Fatalf("docker %v did not end: %v\n%s%s", args, err, out.String(), errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestCLI drives the door with the unmodified docker CLI.
func TestCLI(t *testing.T) {
	shop, sb := fullContainer(t)
	f := newFakeContainers(shop, testContainer(2, "down", container.Exited))
	sock := serveUnix(t, New(testConfig(f, newFakeNetwork(sb))))

	for _, tc := range []struct {
		args string
		code int
		want []string
	}{
		{"version", 0, []string{"Linkspan", "1.51 (minimum version 1.24)", "containerd:", "runc:"}},
		{"info", 0, []string{"Server Version: 0.1.0", "Storage Driver: overlayfs", "Running: 1", "Stopped: 1", "Network: bridge host none", "http://127.0.0.1:5000/", "127.0.0.0/8", "seccomp"}},
		{"ps", 0, []string{"shop", "0.0.0.0:8001->9001/tcp, [::]:8001->9001/tcp", "127.0.0.1:3306->3306/tcp", "[::1]:53->53/udp", "33060/tcp", "Up "}},
		{"ps -aq --no-trunc --filter status=exited", 0, []string{testContainer(2, "", "").ID}},
		{"ps -a --filter foo=bar", 1, []string{"invalid filter 'foo'"}},
		{"port shop 9001", 0, []string{"0.0.0.0:8001", "[::]:8001"}},
		{"inspect shop -f {{.NetworkSettings.IPAddress}}:{{.State.Pid}}", 0, []string{"172.17.0.9:4242"}},
		{"network ls", 0, []string{"bridge    bridge    local", "host      host      local", "none      null      local"}},
		{"network inspect bridge", 0, []string{`"Subnet": "172.17.0.0/16"`, `"Name": "shop"`, `"com.docker.network.bridge.name": "docker0"`}},
		{"network create --subnet 172.25.0.0/16 --gateway 172.25.0.1 --aux-address router=172.25.0.2 --ip-range 172.25.1.0/24 --label a=b --attachable -o com.docker.network.driver.mtu=1400 x", 0, []string{"0000"}},
		{"network create x", 1, []string{"network with name x already exists"}},
		{"network create bridge", 1, []string{"operation is not permitted on predefined bridge network"}},
		{"network inspect x", 0, []string{`"Subnet": "172.25.0.0/16"`, `"Gateway": "172.25.0.1"`, `"IPRange": "172.25.1.0/24"`, `"router": "172.25.0.2"`, `"Options": {}`, `"com.docker.network.driver.mtu": "1400"`}},
		{"network connect --ip 172.25.0.9 --alias cart --link shop:db --link-local-ip 169.254.1.1 --driver-opt a=b --gw-priority 7 x shop", 0, nil},
		{"network disconnect -f x shop", 0, nil},
		{"network ls --filter driver=null -q", 0, []string{noneID[:12]}},
		{"network prune -f", 0, []string{"Deleted Networks:\nx"}},
		{"network rm x", 1, []string{"network x not found"}},
		{"network rm bridge", 1, []string{"bridge is a pre-defined network and cannot be removed"}},
		{"run --name one box true", 7, []string{"hello"}},
		{"run -d --name two box true", 0, []string{"0000000000"}},
		{"run --rm box true", 7, []string{"hello"}},
		{"run absent", 125, []string{"Unable to find image 'absent:latest' locally", "pull access denied for absent"}},
		{"exec shop sh", 3, []string{"from exec"}},
		{"exec -d shop sh", 0, nil},
		{"logs shop", 0, []string{"line"}},
		{"top shop", 0, []string{"PID", "sleep"}},
		{"stats --no-stream shop", 0, []string{"shop", "7B / 0B"}},
		{"diff shop", 0, []string{"A /new"}},
		{"export shop", 0, []string{"a root as tar"}},
		{"commit -m why -c CMD=[] shop new:1", 0, []string{testImageID}},
		{"update --memory 64m --restart always shop", 0, []string{"shop"}},
		{"save box", 0, []string{`archive of box for ""`}},
		{"save --platform linux/arm64/v8 box other", 0, []string{`archive of box other for "linux/arm64/v8"`}},
		{"push box:1.0", 0, []string{"The push refers to repository [box:1.0]", "0a1b2c3d4e5f: Pushed", "1.0: digest: " + testImageID}},
		{"push forbidden:1.0", 1, []string{"denied: requested access"}},
		{"push -a box", 0, []string{"box:latest"}},
		{"system df", 0, []string{"Images          1", "Build Cache     0"}},
		{"stop -t 1 shop", 0, []string{"shop"}},
		{"rename shop two", 0, nil},
		{"rm -f down", 0, []string{"down"}},
		{"container prune -f", 0, []string{"Deleted Containers"}},
		{"swarm leave", 1, []string{"This node is not part of a swarm"}},
		{"node ls", 1, []string{"This node is not a swarm manager"}},
		{"plugin ls", 0, []string{"NAME"}},
	} {
		out, errs, code := docker(t, sock, strings.Fields(tc.args)...)
		if code != tc.code {
			t.Errorf("docker %s: exit code %d, want %d\n%s%s", tc.args, code, tc.code, out, errs)
		}
		for _, w := range tc.want {
			if !strings.Contains(out+errs, w) {
				t.Errorf("docker %s: no %q in\n%s%s", tc.args, w, out, errs)
			}
		}
	}
	calls := strings.Join(f.noted(), "\n")
	if !strings.Contains(calls, "create one\ncanattach") {
		t.Errorf("%s", calls)
	}
}

func TestCLIEvents(t *testing.T) {
	f := newFakeContainers()
	sock := serveUnix(t, New(testConfig(f, newFakeNetwork())))
	f.bus.Publish(events.Event{Type: "container", Action: "die", ID: "abc", Attributes: map[string]string{"name": "web", "exitCode": "0"}})
	out, errs, code := docker(t, sock, "events", "--since", "1m", "--until", time.Now().Add(2*time.Second).Format(time.RFC3339), "--filter", "event=die")
	if code != 0 || !strings.Contains(out, "container die abc (exitCode=0, name=web)") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}
