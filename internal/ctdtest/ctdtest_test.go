package ctdtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"linkspan/probe"
)

func TestStartLeavesNothing(t *testing.T) {
	var dir string
	t.Run("use", func(t *testing.T) {
		s := New(t)
		dir = s.Dir
		c := s.Client()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := c.Version(ctx); err != nil {
			t.Fatal(err)
		}
		s.Kill()
		s.Run()
		if _, err := c.Version(ctx); err != nil {
			t.Fatalf("after a restart: %v", err)
		}
	})
	if dir != "" {
		clean(t, dir)
	}
}

// A container that a test left running goes, whether containerd is still there
// to help or was killed before.
func TestRunningContainers(t *testing.T) {
	probe.Require(t, probe.Runc)
	for name, kill := range map[string]bool{"containerd alive": false, "containerd dead": true} {
		var dir string
		t.Run(name, func(t *testing.T) {
			s := New(t)
			dir = s.Dir
			ctx := namespaces.WithNamespace(t.Context(), filepath.Base(dir))
			c := s.Client()
			root := filepath.Join(dir, "rootfs")
			must(t, os.MkdirAll(filepath.Join(root, "usr"), 0o755))
			for _, d := range []string{"bin", "lib", "lib64"} {
				must(t, os.Symlink("usr/"+d, filepath.Join(root, d)))
			}
			ctr, err := c.NewContainer(ctx, "left-behind", client.WithNewSpec(
				oci.WithRootFSPath(root), oci.WithProcessArgs("/bin/sleep", "1000"),
				oci.WithMounts([]specs.Mount{{Type: "bind", Source: "/usr", Destination: "/usr", Options: []string{"rbind", "ro"}}})))
			if err != nil {
				t.Fatal(err)
			}
			task, err := ctr.NewTask(ctx, cio.NullIO)
			if err != nil {
				t.Fatal(err)
			}
			if err := task.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if kill {
				s.Kill()
			}
		})
		if dir != "" {
			clean(t, dir)
		}
	}
}

// clean checks that nothing on the host names the server's folder.
func clean(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
	b, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(b), dir) {
		t.Errorf("mounts below %s are left", dir)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if cmd, _ := os.ReadFile(p); strings.Contains(string(cmd), dir+"/") {
			t.Errorf("a process is left: %s %q", p, cmd)
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*/", runcRoot + "/"} {
		if left, _ := filepath.Glob(pattern + filepath.Base(dir)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
