// Package clients has other people's programs talk to Linkspan: docker commands of
// three ages, docker-py, and clients of moby's own library.
package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/test/e2e/clients/program"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// TestDockerCommands: a day's work with the oldest docker command at hand, with one of
// version 28, with the one that is installed, and with Linkspan's own.
func TestDockerCommands(t *testing.T) {
	for _, c := range []struct {
		name string
		path func(testing.TB) string
	}{
		{"Debian", program.DebianDocker},
		{"built", program.BuiltDocker},
		{"installed", func(t testing.TB) string {
			p, err := exec.LookPath("docker")
			if err != nil {
				t.Fatal(err)
			}
			return p
		}},
		{"linkspan", func(t testing.TB) string { return daemontest.Binary(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := daemontest.Shared(t)
			cli := &command{t: t, d: d, path: c.path(t), dir: t.TempDir()}
			t.Log(cli.run("version", "-f", "client {{.Client.Version}}, API {{.Client.APIVersion}}, server {{.Server.Version}} {{.Server.APIVersion}}"))
			cli.day()
		})
	}
}

type command struct {
	t    *testing.T
	d    *daemontest.Daemon
	path string
	dir  string
}

func (c *command) try(args ...string) (string, error) {
	cmd := exec.Command(c.path, args...)
	cmd.Env, cmd.Dir = c.d.Env(), c.dir
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (c *command) run(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// says runs a command that must print all of the words; words that begin with "!" must
// not be there.
func (c *command) says(words []string, args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		return out
	}
	for _, w := range words {
		if word, not := strings.CutPrefix(w, "!"); strings.Contains(out, word) == not {
			c.t.Errorf("%s: want %q, printed\n%s", strings.Join(args, " "), w, out)
		}
	}
	return out
}

func (c *command) refused(words []string, args ...string) {
	c.t.Helper()
	out, err := c.try(args...)
	if err == nil {
		c.t.Errorf("%s: succeeded\n%s", strings.Join(args, " "), out)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			c.t.Errorf("%s: want %q, printed\n%s", strings.Join(args, " "), w, out)
		}
	}
}

func (c *command) day() {
	c.says([]string{"Docker Root Dir: " + c.d.Data, "Storage Driver", "Cgroup"}, "info")
	c.images()
	c.networks()
	c.containers()
	c.layers()
	c.housekeeping()
}

func (c *command) images() {
	c.says([]string{"latest"}, "pull", "busybox")
	c.says([]string{"busybox", "latest"}, "images")
	c.says([]string{"busybox"}, "image", "ls", "--filter", "reference=busy*")
	c.says([]string{"busybox:latest"}, "image", "inspect", "-f", "{{.RepoTags}}", "busybox")
	c.says([]string{"IMAGE"}, "history", "busybox")
	c.run("tag", "busybox", "mine:v1")
	c.says([]string{"Untagged: mine:v1"}, "rmi", "mine:v1")
	c.refused([]string{"No such image: nosuch:latest"}, "image", "inspect", "nosuch:latest")
}

func (c *command) networks() {
	id := c.run("network", "create", "--subnet", "10.60.0.0/24", "--label", "a=b", "cli-net")
	if len(id) != 64 {
		c.t.Errorf("network create printed %q", id)
	}
	c.says([]string{"cli-net", "bridge", "local"}, "network", "ls")
	c.says([]string{`"Subnet": "10.60.0.0/24"`, `"Driver": "bridge"`}, "network", "inspect", "cli-net")
	c.says([]string{"[map[]]", "!10.60"}, "network", "inspect", "-f", "[{{.Options}}]", "cli-net")
}

func (c *command) containers() {
	c.run("run", "-d", "--name", "cli-one", "--network", "cli-net", "--ip", "10.60.0.9", "--network-alias", "uno", "-p", "9000:9000", "-l", "k=v",
		"--restart", "on-failure:2", "-e", "A=b", "busybox", "sh", "-c", "echo started; exec netprobe serve tcp/:9000")
	c.says([]string{"cli-one", "0.0.0.0:9000->9000/tcp", "Up"}, "ps")
	c.says([]string{"cli-one"}, "ps", "--filter", "label=k=v", "--filter", "network=cli-net", "--format", "{{.Names}}")
	c.says([]string{"9000/tcp -> 0.0.0.0:9000"}, "port", "cli-one")
	c.says([]string{"10.60.0.9"}, "inspect", "-f", `{{(index .NetworkSettings.Networks "cli-net").IPAddress}}`, "cli-one")
	c.says([]string{"cli-one"}, "network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}}", "cli-net")
	c.d.Until(lab.Patience, "its words are in the log, and it is its program", func() bool {
		log, _ := c.try("logs", "cli-one")
		top, _ := c.try("top", "cli-one")
		return strings.Contains(log, "started") && strings.Contains(top, "netprobe serve")
	})
	c.says([]string{"started"}, "logs", "cli-one")
	c.says([]string{"A=b"}, "exec", "cli-one", "env")
	if _, err := c.try("exec", "cli-one", "sh", "-c", "exit 7"); exitCode(err) != 7 {
		c.t.Errorf("exec's exit code: %v", err)
	}
	c.says([]string{"netprobe"}, "top", "cli-one")
	c.says([]string{"cli-one", "%"}, "stats", "--no-stream")

	c.run("network", "create", "cli-two")
	c.run("network", "connect", "--alias", "due", "cli-two", "cli-one")
	c.says([]string{"eth1"}, "exec", "cli-one", "ip", "-o", "link")
	c.run("network", "disconnect", "cli-two", "cli-one")
	c.says([]string{"!eth1"}, "exec", "cli-one", "ip", "-o", "link")
	c.run("network", "rm", "cli-two")
	c.refused([]string{"has active endpoints"}, "network", "rm", "cli-net")

	if err := os.WriteFile(filepath.Join(c.dir, "file"), []byte("copied"), 0o644); err != nil {
		c.t.Fatal(err)
	}
	c.run("cp", "file", "cli-one:/tmp/file")
	c.says([]string{"copied"}, "exec", "cli-one", "cat", "/tmp/file")
	c.run("cp", "cli-one:/tmp/file", "back")
	c.says([]string{"A /tmp/file"}, "diff", "cli-one")
	c.run("update", "--memory", "64m", "--memory-swap", "64m", "--restart", "no", "cli-one")
	c.says([]string{"67108864 no"}, "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "cli-one")
	c.run("pause", "cli-one")
	c.says([]string{"(Paused)"}, "ps")
	c.run("unpause", "cli-one")
	c.run("rename", "cli-one", "cli-renamed")
	c.run("restart", "-t", "0", "cli-renamed")
	c.run("kill", "cli-renamed")
	c.says([]string{"137"}, "wait", "cli-renamed")
	c.says([]string{"die", "kill", "rename"}, "events", "--since", "10m", "--until", time.Now().Format(time.RFC3339Nano), "--filter", "type=container")
	c.says([]string{"hello 0"}, "run", "--rm", "busybox", "sh", "-c", "echo hello $?")
	if _, err := c.try("run", "--rm", "busybox", "nosuch"); exitCode(err) != 127 {
		c.t.Errorf("a command that is not there: %v", err)
	}
	c.run("run", "-d", "--name", "cli-health", "--health-cmd", "true", "--health-interval", "200ms", "busybox", "sleep", "100")
	c.d.Until(10*time.Second, "it is healthy", func() bool {
		out, _ := c.try("ps", "--filter", "health=healthy", "--format", "{{.Names}} {{.Status}}")
		return strings.Contains(out, "cli-health") && strings.Contains(out, "(healthy)")
	})
}

// layers: what makes images out of containers, and carries them about.
func (c *command) layers() {
	c.run("commit", "-m", "said", "cli-renamed", "cli-image:v2")
	c.says([]string{"copied"}, "run", "--rm", "cli-image:v2", "cat", "/tmp/file")
	c.run("save", "-o", "saved.tar", "cli-image:v2")
	c.run("rmi", "cli-image:v2")
	c.says([]string{"Loaded image: cli-image:v2"}, "load", "-i", "saved.tar")
	c.says([]string{"copied"}, "run", "--rm", "cli-image:v2", "cat", "/tmp/file")
	c.run("export", "-o", "exported.tar", "cli-renamed")
	c.run("import", "exported.tar", "cli-flat:v1")
	c.says([]string{"copied"}, "run", "--rm", "cli-flat:v1", "cat", "/tmp/file")
	c.run("rmi", "cli-image:v2", "cli-flat:v1")
}

func (c *command) housekeeping() {
	c.run("volume", "create", "cli-volume")
	c.says([]string{"cli-volume"}, "volume", "ls")
	c.says([]string{"Images", "Containers", "Local Volumes"}, "system", "df")
	c.run("rm", "-f", "cli-renamed", "cli-health")
	c.says([]string{"cli-net"}, "network", "prune", "-f")
	c.run("run", "--name", "cli-done", "busybox", "true")
	c.says([]string{"Total reclaimed space"}, "container", "prune", "-f")
	c.says([]string{"!cli-done"}, "ps", "-a", "--format", "{{.Names}}")
	c.run("volume", "rm", "cli-volume")
	c.says([]string{"Total reclaimed space"}, "image", "prune", "-f")
}

func exitCode(err error) int {
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return 0
}
