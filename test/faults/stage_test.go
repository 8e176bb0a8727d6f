package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
)

// stage is one daemon with the networks and containers that most cases need:
//
//	n, m, six               networks of bridges brn, brm, brsix: 10.71.0.0/24, 10.72.0.0/24,
//	                        10.76.0.0/24 with fd76::/64
//	ann, bob                on n; bob publishes 8080 (tcp, udp) and, on 127.0.0.1, 8081
//	cat                     on m
//	eve, fay                on the default bridge
//	gil, hal                on six; gil publishes 8095
//	machine                 outside, $M; its wire leads to the host, $H
//
// Containers and the machine answer on the ports 80 and 90 by tcp and udp, the host on
// 90.
type stage struct {
	d     *daemontest.Daemon
	probe string            // netprobe, for places that are no containers
	bin   string            // a folder with linkspan and docker
	pid   string            // a file for the pid of a process that a case starts
	table string            // our nftables table
	vars  map[string]string // ip_bob, mac_bob, pid_bob, veth_bob, …
	own   map[string]bool   // ids of the stage's own containers and networks
}

const server = "netprobe serve tcp/:80 udp/:80 tcp/:90 udp/:90"

// prelude are the words of scripts.
const prelude = `
# inside CONTAINER COMMAND…: on its network stack, with the host's programs.
inside() { c=$1; shift; nsenter --net=/proc/$(pid $c)/ns/net -- "$@"; }
# root CONTAINER: its file system.
root() { echo /proc/$(pid $1)/root; }
machine() { nsenter --net=$MACHINE -- "$@"; }
pid() { eval "p=\${pid_$1:-}"; [ -n "$p" ] || p=$(docker inspect -f '{{.State.Pid}}' $1); echo $p; }
# net NAME FLAGS…, run NAME FLAGS…: a network, a container that serves, on which run waits.
net() { name=$1; shift; docker network create "$@" $name >/dev/null; }
make() { name=$1; shift; docker run -d --name $name "$@" >/dev/null; }
run() { make "$@" ` + server + `; serves $1; }
# until_ok COMMAND…: waits until it succeeds.
until_ok() { n=0; until "$@"; do n=$((n+1)); [ $n -lt 500 ] || { echo "never: $*"; exit 1; }; sleep .04; done; }
serves() { p=$(docker inspect -f '{{.State.Pid}}' $1); until_ok grep -qs ' 0A ' /proc/$p/net/tcp6 /proc/$p/net/tcp; }
# takes PORT: somebody on the host listens on it.
takes() { until_ok sh -c "ss -Htln sport = :$1 | grep -q ."; }
`

func newStage(t *testing.T, d *daemontest.Daemon) *stage {
	t.Helper()
	s := bareStage(t, d)
	s.run(t, `
		docker network create --subnet 10.71.0.0/24 -o com.docker.network.bridge.name=brn n
		docker network create --subnet 10.72.0.0/24 -o com.docker.network.bridge.name=brm m
		docker network create --subnet 10.76.0.0/24 --ipv6 --subnet fd76::/64 -o com.docker.network.bridge.name=brsix six
		set -- `+server+`
		docker run -d --name ann --network n "$@"
		docker run -d --name bob --network n -p 8080:80 -p 8080:80/udp -p 127.0.0.1:8081:80 "$@"
		docker run -d --name cat --network m "$@"
		docker run -d --name eve "$@"
		docker run -d --name gil --network six -p 8095:80 "$@"
		docker run -d --name hal --network six "$@"
		docker run -d --name fay "$@"
		for x in ann bob cat eve fay gil hal; do serves $x; done`)
	s.owns(t)
	return s
}

// bareStage is one without containers.
func bareStage(t *testing.T, d *daemontest.Daemon) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{d: d, probe: daemontest.Netprobe(t),
		bin: filepath.Join(dir, "bin"), pid: filepath.Join(dir, "pid")}
	for f := range strings.FieldsSeq(d.Host.Run("nft", "list", "tables")) {
		if strings.HasPrefix(f, "linkspan_") && !strings.HasSuffix(f, "_hooks") {
			s.table = f
		}
	}
	s.vars = s.places()
	if err := os.Mkdir(s.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{"linkspan": daemontest.Binary(t), "docker": os.Getenv(daemontest.DockerEnv)}
	for name, to := range links {
		if to == "" {
			continue
		}
		if err := os.Symlink(to, filepath.Join(s.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	p := d.Machine.Start([]string{s.probe, "serve", "tcp/:80", "udp/:80", "tcp/:90", "udp/:90"})
	h := d.Host.Start([]string{s.probe, "serve", "tcp/:90", "udp/:90"})
	t.Cleanup(func() { p.Kill(); h.Kill() }) // the lab lives on
	p.WaitFor("listening udp/[::]:90", patience)
	h.WaitFor("listening udp/[::]:90", patience)
	return s
}

// run executes a script; it must succeed.
func (s *stage) run(t *testing.T, script string) string {
	t.Helper()
	out, err := s.sh(script)
	if err != nil {
		t.Fatalf("%s\n%v\n%s", s.expand(strings.TrimSpace(script)), err, out)
	}
	return out
}

func (s *stage) sh(script string) (string, error) {
	for k, v := range s.vars {
		if _, err := os.Stat("/proc/" + v); strings.HasPrefix(k, "pid_") && err != nil {
			delete(s.vars, k) // it was restarted: pid() asks
		}
	}
	if strings.Contains(script, "$veth_") {
		s.ends()
	}
	cmd := s.d.Host.Command("sh", "-ec", prelude+script)
	env := append(s.d.Env(), "PATH="+s.bin+":"+os.Getenv("PATH"), "PIDFILE="+s.pid, "MACHINE="+s.d.Machine.NS, "PROBE="+s.probe)
	for k, v := range s.vars {
		env = append(env, k+"="+v)
	}
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// prepare runs a setup and learns all containers.
func (s *stage) prepare(t *testing.T, setup string) {
	t.Helper()
	if setup != "" {
		s.run(t, setup)
	}
	s.vars = s.places()
	var ids []struct{ Id string }
	s.get(t, "/containers/json?all=1", &ids)
	for _, id := range ids {
		var c struct {
			Id, Name        string
			State           struct{ Pid int }
			NetworkSettings struct {
				Networks map[string]struct{ IPAddress, GlobalIPv6Address, MacAddress string }
			}
		}
		s.get(t, "/containers/"+id.Id+"/json", &c)
		name := strings.TrimPrefix(c.Name, "/")
		s.vars["id_"+name] = c.Id[:12]
		if c.State.Pid > 0 {
			s.vars["pid_"+name] = fmt.Sprint(c.State.Pid)
		}
		for i, n := range slices.Sorted(maps.Keys(c.NetworkSettings.Networks)) {
			e := c.NetworkSettings.Networks[n]
			of := map[string]string{"ip": e.IPAddress, "ip6": e.GlobalIPv6Address, "mac": e.MacAddress}
			for k, v := range of {
				s.vars[k+"_"+name+"_"+n] = v
				if i == 0 {
					s.vars[k+"_"+name] = v
				}
			}
		}
	}
}

// ask asks the daemon; docker would take ten times as long.
func (s *stage) ask(method, path string, to any) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.d.Socket)
	}}}
	req, err := http.NewRequest(method, "http://docker"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	if to == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(to)
}

func (s *stage) get(t *testing.T, path string, to any) {
	t.Helper()
	if err := s.ask(http.MethodGet, path, to); err != nil {
		t.Fatal(err)
	}
}

// ends learns the host's end of each container's eth0: its index is inside, in
// "eth0@if7".
func (s *stage) ends() {
	index := map[string]string{}
	links, _ := s.d.Host.Try("ip", "-o", "link")
	for l := range strings.Lines(links) {
		if f := strings.Fields(l); len(f) > 1 {
			name, _, _ := strings.Cut(strings.TrimSuffix(f[1], ":"), "@")
			index[strings.TrimSuffix(f[0], ":")] = name
		}
	}
	peer := regexp.MustCompile(`eth0@if(\d+):`)
	for k, pid := range maps.Clone(s.vars) {
		name, ok := strings.CutPrefix(k, "pid_")
		if !ok {
			continue
		}
		out, err := exec.Command("nsenter", "--net=/proc/"+pid+"/ns/net", "--", "ip", "-o", "link").Output()
		if m := peer.FindSubmatch(out); err == nil && m != nil {
			s.vars["veth_"+name] = index[string(m[1])]
		}
	}
}

// clear undoes a case: its own undo, then all containers and networks that are not the
// stage's. That the undo finds things in order already is no failure.
func (s *stage) clear(t *testing.T, undo string) {
	t.Helper()
	if undo != "" {
		if out, err := s.sh("set +e\n" + undo); err != nil && t.Failed() {
			t.Logf("undo: %v\n%s", err, out)
		}
	}
	var all []struct{ Id, Name string }
	_ = s.ask(http.MethodGet, "/containers/json?all=1", &all)
	for _, c := range all {
		if !s.own[c.Id] {
			_ = s.ask(http.MethodDelete, "/containers/"+c.Id+"?force=1&v=1", nil)
		}
	}
	all = nil
	_ = s.ask(http.MethodGet, "/networks", &all)
	for _, n := range all {
		if s.own[n.Id] {
			continue
		}
		var in struct {
			Containers map[string]struct{ Name string }
		}
		_ = s.ask(http.MethodGet, "/networks/"+n.Id, &in)
		for _, c := range in.Containers {
			s.d.TryDocker("network", "disconnect", "-f", n.Id, c.Name)
		}
		_ = s.ask(http.MethodDelete, "/networks/"+n.Id, nil)
	}
}

// owns makes what there is now the stage's own: it stays after each case.
func (s *stage) owns(t *testing.T) {
	t.Helper()
	s.own = map[string]bool{}
	for _, path := range []string{"/containers/json?all=1", "/networks"} {
		var all []struct{ Id string }
		s.get(t, path, &all)
		for _, o := range all {
			s.own[o.Id] = true
		}
	}
}

// expand replaces $ip_bob and the like; what is not known stays.
func (s *stage) expand(text string) string {
	return os.Expand(text, func(k string) string {
		if v, ok := s.vars[k]; ok {
			return v
		}
		return "$" + k
	})
}

// places are those outside of containers, and the name of our table.
func (s *stage) places() map[string]string {
	return map[string]string{"H": daemontest.HostAddr, "M": daemontest.MachineAddr, "H6": daemontest.HostAddr6, "M6": daemontest.MachineAddr6, "TABLE": s.table}
}
