package container

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/go-units"
	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
)

// What a process sees of how its container was wished for.
func TestInside(t *testing.T) {
	w := newWorld(t)
	w.start()
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, cmd, want string
		change          func(*CreateRequest)
	}{
		{"root", "id", "uid=0(root) gid=0(root) groups=0(root)\n", nil},
		{"user", "id", "uid=33(web) gid=33(web) groups=29(audio),33(web)\n", func(r *CreateRequest) { r.Config.User = "web" }},
		{"numbers", "id -u; id -g", "1000\n2000\n", func(r *CreateRequest) { r.Config.User = "1000:2000" }},
		{"groupadd", "id -G", "33 29 777\n", func(r *CreateRequest) { r.Config.User, r.HostConfig.GroupAdd = "web", []string{"777", "audio"} }},
		{"env", "echo $A-$B-$PATH-$HOSTNAME", "1-x y-/bin-box\n", func(r *CreateRequest) { r.Config.Env, r.Config.Hostname = []string{"A=1", "B=x y"}, "box" }},
		{"workdir", "pwd", "/made/here\n", func(r *CreateRequest) { r.Config.WorkingDir = "/made/here" }},
		{"hostname", "hostname; cat /etc/hostname; cat /proc/sys/kernel/domainname; grep box /etc/hosts",
			"box\nbox\nexample.org\n172.17.0.2\tbox.example.org box\n",
			func(r *CreateRequest) { r.Config.Hostname, r.Config.Domainname = "box", "example.org" }},
		{"hosthostname", "hostname", own + "\n", func(r *CreateRequest) { r.HostConfig.NetworkMode = "host" }},
		{"hosts", "grep -c . /etc/hosts; grep db /etc/hosts; grep up /etc/hosts", "11\n10.1.1.1\tdb\n172.17.0.1\tup\n",
			func(r *CreateRequest) { r.HostConfig.ExtraHosts = []string{"db:10.1.1.1", "up:host-gateway"} }},
		{"search", "grep search /etc/resolv.conf", "search a.example\n", func(r *CreateRequest) { r.HostConfig.DNSSearch = []string{"a.example"} }},
		{"writable files", "echo x >> /etc/hosts && echo y >> /etc/resolv.conf && echo ok", "ok\n", nil},
		{"readonly", "touch /x 2>/dev/null || echo no; touch /etc/hosts 2>/dev/null || echo no; touch /dev/shm/x /run/x && echo yes", "no\nno\nyes\n", func(r *CreateRequest) {
			r.HostConfig.ReadonlyRootfs, r.HostConfig.Tmpfs = true, map[string]string{"/run": "size=1m"}
		}},
		{"tmpfs", "mount | grep ' /t ' | grep -c 'noexec.*size=1024k'", "1\n", func(r *CreateRequest) { r.HostConfig.Tmpfs = map[string]string{"/t": "size=1m"} }},
		{"shm", "grep -c ' /dev/shm tmpfs.*size=2048k' /proc/mounts", "1\n", func(r *CreateRequest) { r.HostConfig.ShmSize = 2 << 20 }},
		{"caps", "grep CapEff /proc/self/status", "CapEff:\t00000000a80425fb\n", nil},
		{"caps all away", "grep CapEff /proc/self/status", "CapEff:\t0000000000000400\n", func(r *CreateRequest) {
			r.HostConfig.CapDrop, r.HostConfig.CapAdd = []string{"ALL"}, []string{"net_bind_service"}
		}},
		{"caps of a user", "grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n", func(r *CreateRequest) { r.Config.User = "web" }},
		{"nnp", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n", func(r *CreateRequest) { r.HostConfig.SecurityOpt = []string{"no-new-privileges"} }},
		{"seccomp", "grep Seccomp: /proc/self/status", "Seccomp:\t2\n", nil},
		{"no seccomp", "grep Seccomp: /proc/self/status", "Seccomp:\t0\n", func(r *CreateRequest) { r.HostConfig.SecurityOpt = []string{"seccomp=unconfined"} }},
		{"masked", "grep -c ' /sys/firmware tmpfs ro' /proc/mounts; grep -c ' /proc/sys proc ro' /proc/mounts; grep -c ' /sys sysfs ro' /proc/mounts", "1\n1\n1\n", nil},
		{"privileged", "test -e /dev/loop-control || test -e /dev/kmsg && grep Seccomp: /proc/self/status; touch /sys/x 2>&1 | grep -c Read-only", "Seccomp:\t0\n0\n",
			func(r *CreateRequest) { r.HostConfig.Privileged = true }},
		{"sysctl", "cat /proc/sys/kernel/shmmax", "12345\n", func(r *CreateRequest) { r.HostConfig.Sysctls = map[string]string{"kernel.shmmax": "12345"} }},
		{"ulimit", "ulimit -n; ulimit -Hn", "100\n200\n", func(r *CreateRequest) { r.HostConfig.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}} }},
		{"oom score", "cat /proc/self/oom_score_adj", "321\n", func(r *CreateRequest) { r.HostConfig.OomScoreAdj = 321 }},
		{"memory", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null", "67108864\n", func(r *CreateRequest) { r.HostConfig.Memory = 64 << 20 }},
		{"cpus", "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || head -c5 /sys/fs/cgroup/cpu.max", "50000\n", func(r *CreateRequest) { r.HostConfig.NanoCPUs = 5e8 }},
		{"cpuset", "nproc", "1\n", func(r *CreateRequest) { r.HostConfig.CpusetCpus = "0" }},
		{"pids", "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null", "50\n", func(r *CreateRequest) { r.HostConfig.PidsLimit = p(int64(50)) }},
		{"pid host", "test $(readlink /proc/self/ns/pid) = " + nsLink("pid") + " && echo same", "same\n", func(r *CreateRequest) { r.HostConfig.PidMode = "host" }},
		{"uts host", "hostname", own + "\n", func(r *CreateRequest) { r.HostConfig.UTSMode = "host" }},
		{"ipc host", "test $(readlink /proc/self/ns/ipc) = " + nsLink("ipc") + " && echo same", "same\n", func(r *CreateRequest) { r.HostConfig.IpcMode = "host" }},
		{"net host", "test $(readlink /proc/self/ns/net) = " + nsLink("net") + " && echo same", "same\n", func(r *CreateRequest) { r.HostConfig.NetworkMode = "host" }},
		{"cgroupns", "cat /proc/self/cgroup | grep -c linkspan", "0\n", func(r *CreateRequest) { r.HostConfig.CgroupnsMode = "private" }},
		{"device", "ls /dev/mynull && echo x > /dev/mynull && echo ok", "/dev/mynull\nok\n", func(r *CreateRequest) {
			r.HostConfig.Devices = []apicontainer.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/mynull", CgroupPermissions: "rwm"}}
		}},
		{"entrypoint", "", "a b\n", func(r *CreateRequest) { r.Config.Entrypoint, r.Config.Cmd = []string{"echo", "a"}, []string{"b"} }},
		{"tty", "test -t 0 && test -t 1 && stty size", "24 80\r\n", func(r *CreateRequest) {
			r.Config.Tty, r.HostConfig.ConsoleSize = true, [2]uint{24, 80}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			var change []func(*CreateRequest)
			if c.change != nil {
				change = append(change, c.change)
			}
			_, out := w.output("in-"+strings.ReplaceAll(c.name, " ", "-"), c.cmd, change...)
			if out != c.want {
				t.Errorf("%q, want %q", out, c.want)
			}
		})
	}
	w.clean()
}

func nsLink(kind string) string {
	l, _ := os.Readlink("/proc/self/ns/" + kind)
	return l
}

func TestStartRefused(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	cmd := func(args ...string) func(*CreateRequest) {
		return func(r *CreateRequest) { r.Config.Cmd = args }
	}
	for name, c := range map[string]struct {
		change func(*CreateRequest)
		class  error
		words  string
		code   int
	}{
		"unknown":   {cmd("nosuch"), cnm.ErrInvalid, `exec: "nosuch": executable file not found in $PATH`, 127},
		"missing":   {cmd("/no/such"), cnm.ErrInvalid, `no such file or directory`, 127},
		"forbidden": {cmd("/etc/passwd.d"), cnm.ErrInvalid, `no such file or directory`, 127},
		"directory": {cmd("/etc"), cnm.ErrInvalid, "permission denied", 126},
		"user":      {func(r *CreateRequest) { r.Config.User = "nobodyhere" }, cnm.ErrInvalid, "unable to find user nobodyhere: no matching entries in passwd file", 128},
		"group":     {func(r *CreateRequest) { r.Config.User = "web:nobodyhere" }, cnm.ErrInvalid, "unable to find group nobodyhere: no matching entries in group file", 128},
		"mount": {func(r *CreateRequest) { r.HostConfig.Binds = []string{"/etc/hostname:/etc"} }, cnm.ErrInvalid,
			"Are you trying to mount a directory onto a file (or vice-versa)?", 127},
	} {
		id := w.create("no-"+name, "true", c.change)
		before := w.net.names()
		err := e.Start(ctx, id)
		refused(t, name, err, c.class, c.words)
		ctr, _ := e.Get(id)
		if ctr.State.Phase != Created || ctr.State.ExitCode != c.code || ctr.State.Error == "" || ctr.State.Starting {
			t.Errorf("%s: %+v", name, ctr.State)
		}
		if len(w.net.names()) != len(before) {
			t.Errorf("%s: a sandbox stays", name)
		}
	}
	// The network says no: its error comes as it is, and nothing stays.
	id := w.create("no-net", "true")
	w.net.fail = cnm.Conflict("port 80 is held by somebody")
	refused(t, "network", e.Start(ctx, id), cnm.ErrConflict, "port 80 is held by somebody")
	_, _, err := e.Create(ctx, request("no-check", "true"))
	refused(t, "check", err, cnm.ErrConflict, "port 80")
	w.net.fail = nil
	ok(t, "and now", e.Start(ctx, id))
	w.clean()
}

func TestCreateRefused(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	for name, c := range map[string]struct {
		change func(*CreateRequest)
		class  error
		words  string
	}{
		"env":       {func(r *CreateRequest) { r.Config.Env = []string{"=x"} }, cnm.ErrInvalid, "invalid environment variable: =x"},
		"network":   {func(r *CreateRequest) { r.HostConfig.NetworkMode = "nope" }, cnm.ErrInvalid, "network nope not found"},
		"container": {func(r *CreateRequest) { r.HostConfig.NetworkMode = "container:nope" }, cnm.ErrInvalid, "No such container: nope"},
		"pid":       {func(r *CreateRequest) { r.HostConfig.PidMode = "container:nope" }, cnm.ErrInvalid, "No such container: nope"},
		"bind":      {func(r *CreateRequest) { r.HostConfig.Binds = []string{"/a:/b:fast"} }, cnm.ErrInvalid, "invalid mode: fast"},
		"from":      {func(r *CreateRequest) { r.HostConfig.VolumesFrom = []string{"nope"} }, cnm.ErrInvalid, "No such container: nope"},
		"host":      {func(r *CreateRequest) { r.HostConfig.ExtraHosts = []string{"x"} }, cnm.ErrInvalid, `bad format for add-host: "x"`},
		"sysctl":    {func(r *CreateRequest) { r.HostConfig.Sysctls = map[string]string{"vm.swappiness": "1"} }, cnm.ErrInvalid, "vm.swappiness"},
		"net sysctl": {func(r *CreateRequest) {
			r.HostConfig.NetworkMode, r.HostConfig.Sysctls = "host", map[string]string{"net.ipv4.ip_forward": "1"}
		}, cnm.ErrInvalid, "net.ipv4.ip_forward"},
		"device": {func(r *CreateRequest) {
			r.HostConfig.Devices = []apicontainer.DeviceMapping{{PathOnHost: "/dev/nope"}}
		}, cnm.ErrInvalid, `error gathering device information while adding custom device "/dev/nope"`},
		"device mode": {func(r *CreateRequest) {
			r.HostConfig.Devices = []apicontainer.DeviceMapping{{PathOnHost: "/dev/null", CgroupPermissions: "x"}}
		}, cnm.ErrInvalid, "invalid device mode: x"},
		"security": {func(r *CreateRequest) { r.HostConfig.SecurityOpt = []string{"what=ever"} }, cnm.ErrInvalid, "invalid --security-opt"},
		"platform": {func(r *CreateRequest) { r.Platform = "linux/s390x" }, cnm.ErrNotFound, "does not match the specified platform (linux/s390x)"},
		"name":     {func(r *CreateRequest) { r.Name = "a b" }, cnm.ErrInvalid, "Invalid container name (a b)"},
	} {
		r := request("refused", "true")
		c.change(&r)
		_, _, err := e.Create(t.Context(), r)
		refused(t, name, err, c.class, c.words)
	}
	if l := e.List(); len(l) != 0 {
		t.Errorf("%d containers were made", len(l))
	}
	w.clean()
}

// A container without a namespace of its own shares the files too, and a target
// at rest is told of.
func TestJoined(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	owner := w.create("owner", "sleep 100", func(r *CreateRequest) { r.Config.Hostname, r.HostConfig.IpcMode = "own", "shareable" })
	join := func(r *CreateRequest) {
		r.HostConfig.NetworkMode, r.HostConfig.IpcMode, r.HostConfig.PidMode = "container:owner", "container:owner", "container:owner"
	}
	id := w.create("guest", "hostname; grep own /etc/hosts; cat /dev/shm/note; ps | grep -q '[s]leep 100' && echo seen; echo 9.9.9.9 guest >> /etc/hosts", join)
	refused(t, "start", e.Start(ctx, id), cnm.ErrConflict, "cannot join network of a non running container: "+owner)
	ok(t, "start", e.Start(ctx, owner))
	refused(t, "ipc of a private one", func() error {
		w.run("private", "sleep 100")
		x := w.create("intruder", "true", func(r *CreateRequest) { r.HostConfig.IpcMode = "container:private" })
		return e.Start(ctx, x)
	}(), cnm.ErrConflict, "non-shareable IPC")
	if code, out := w.execute(owner, ExecConfig{Cmd: []string{"sh", "-c", "echo hi > /dev/shm/note"}}, ""); code != 0 {
		t.Fatal(out)
	}
	done, _ := e.Wait(ctx, id, WaitNextExit)
	ok(t, "start", e.Start(ctx, id))
	w.result(done)
	if out := w.logs(id); out != "own\n172.17.0.2\town\nhi\nseen\n" {
		t.Errorf("%q", out)
	}
	if c, _ := e.Get(id); c.Target != owner {
		t.Error(c.Target)
	}
	if _, out := w.execute(owner, ExecConfig{Cmd: []string{"grep", "guest", "/etc/hosts"}}, ""); out != "9.9.9.9 guest\n" {
		t.Errorf("what one writes the other reads: %q", out)
	}
	w.clean()
}

func TestOOM(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	if !e.cgroups.memory {
		t.Skip("probe: no memory cgroup here: limits cannot be tested")
	}
	code, _ := w.output("greedy", "x=$(yes | head -c 100000000); echo $x | wc", func(r *CreateRequest) { r.HostConfig.Memory, r.HostConfig.MemorySwap = 8<<20, 8<<20 })
	c, _ := e.Get("greedy")
	if !c.State.OOMKilled {
		t.Errorf("%d %+v", code, c.State)
	}
	w.clean()
}

func TestVolumes(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	host := filepath.Join(t.TempDir(), "not", "there")
	id := w.create("v1", "cat /data/file; id -u < /dev/null; stat -c %u /data; echo new > /data/mine; echo b > /bind/f; touch /ro/x 2>/dev/null || echo ro; cat /anon/file 2>&1", func(r *CreateRequest) {
		r.HostConfig.Binds = []string{"named:/data", host + ":/bind", host + ":/ro:ro"}
		r.Config.Volumes = map[string]struct{}{"/anon": {}}
	})
	if _, err := os.Stat(host); !errors.Is(err, os.ErrNotExist) {
		t.Error("the source of a bind is made at the start")
	}
	c, _ := e.Get(id)
	if len(c.Mounts) != 4 || !hasAnonymous(c) {
		t.Errorf("%+v", c.Mounts)
	}
	done, _ := e.Wait(ctx, id, WaitNextExit)
	ok(t, "start", e.Start(ctx, id))
	w.result(done)
	if out := w.logs(id); out != "from the image\n0\n33\nro\ncat: can't open '/anon/file': No such file or directory\n" {
		t.Errorf("%q", out)
	}
	if b, err := os.ReadFile(filepath.Join(host, "f")); err != nil || string(b) != "b\n" {
		t.Errorf("%q %v", b, err)
	}
	if u := e.VolumeUsers("named"); len(u) != 1 || u[0] != id {
		t.Error(u)
	}
	refused(t, "a volume in use", w.volumes.Remove(ctx, "named", true), cnm.ErrConflict, "")
	_, out := w.output("v2", "cat /data/mine; touch /data/x 2>/dev/null || echo ro", func(r *CreateRequest) { r.HostConfig.VolumesFrom = []string{"v1:ro"} })
	if out != "new\nro\n" {
		t.Errorf("%q", out)
	}
	anon := c.Mounts[0].Name
	if !c.Mounts[0].Anonymous {
		t.Fatalf("%+v", c.Mounts)
	}
	ok(t, "rm", e.Remove(ctx, "v2", RemoveOptions{Volumes: true}))
	if _, err := w.volumes.Get(ctx, anon); err != nil {
		t.Error("v2 did not make it: it must not take it")
	}
	ok(t, "rm", e.Remove(ctx, "v1", RemoveOptions{}))
	if _, err := w.volumes.Get(ctx, anon); err != nil {
		t.Error("without -v the volume stays")
	}
	ok(t, "volume rm", w.volumes.Remove(ctx, anon, false))
	w.create("v3", "true", func(r *CreateRequest) { r.Config.Volumes = map[string]struct{}{"/anon": {}} })
	ok(t, "rm -v", e.Remove(ctx, "v3", RemoveOptions{Volumes: true}))
	ok(t, "volume rm", w.volumes.Remove(ctx, "named", false))
	w.clean()
}
