package mesh

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
)

// TestReadme types what the README's section on several hosts says, in both languages the
// same.
func TestReadme(t *testing.T) {
	t.Parallel()
	lines := hostLines(t, "README.md")
	if other := hostLines(t, "README.zh-CN.md"); strings.Join(lines, "\n") != strings.Join(other, "\n") {
		t.Errorf("README.zh-CN.md says\n%s\nREADME.md\n%s", strings.Join(other, "\n"), strings.Join(lines, "\n"))
	}
	c := &cluster{daemontest.NewCluster(t, 2), t}
	token := ""
	for _, l := range lines {
		host, cmd, _ := strings.Cut(l, "$ ")
		i := map[string]int{"host1": 0, "host2": 1}[host]
		words := strings.Fields(strings.ReplaceAll(cmd, "lsm1-…", token))
		if words[0] == "docker" {
			if strings.Contains(cmd, "ping") {
				c.Daemons[i].Until(patience, cmd, func() bool { return strings.Contains(c.Daemons[i].TryDocker(words[1:]...).Stdout, " 0% packet loss") })
				continue
			}
			c.Daemons[i].Docker(words[1:]...)
			if strings.Contains(cmd, "network create") {
				name := words[len(words)-1]
				c.Daemons[1].Until(patience, name+" on host2", func() bool { return strings.Contains(c.Daemons[1].Docker("network", "ls"), name) })
			}
			continue
		}
		// All hosts of the test are called like the machine.
		if words[2] == "init" || words[2] == "join" {
			words = append(words, "--name", host)
			t.Cleanup(func() { c.leave(i) })
		}
		if words[2] == "status" || words[2] == "check" { // well, when all has been measured
			c.Daemons[i].Until(patience, cmd, func() bool { return c.Daemons[i].Linkspan(words[1:]...).Code == 0 })
			continue
		}
		out := c.on(i, words[1:]...)
		if words[2] == "init" {
			if token = regexp.MustCompile(`lsm1-\S+`).FindString(out); token == "" {
				t.Fatalf("mesh init printed no token: %s", out)
			}
		}
	}
}

// hostLines are what is typed, without the comments.
func hostLines(t *testing.T, file string) (lines []string) {
	b, err := os.ReadFile(filepath.Join(daemontest.Root(), file))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "<!-- hosts -->")
	text, _, found := strings.Cut(text, "<!-- end of hosts -->")
	for _, l := range strings.Split(text, "\n") {
		l, _, _ = strings.Cut(l, "   #")
		if strings.HasPrefix(l, "host") {
			lines = append(lines, strings.TrimSpace(l))
		}
	}
	if !found || len(lines) < 5 {
		t.Fatalf("%s has no lines for hosts", file)
	}
	return lines
}
