package mesh

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/netns"
)

// whyAnswer is what `linkspan why --json` says.
type whyAnswer struct {
	Code, Sentence, Cure, Advice, Verdict, Host, Asked string
	Missing                                            []string
	Notes                                              []struct{ Text, Host string }
	Steps                                              []whyStep
}

type whyStep struct{ Part, Host, Where, Look, Found, State string }

func (a whyAnswer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %q: %s\ncure: %s\nadvice: %s\nmissing: %q\nnotes: %v\n", a.Code, a.Host, a.Sentence, a.Cure, a.Advice, a.Missing, a.Notes)
	for _, s := range a.Steps {
		fmt.Fprintf(&b, "  %-8s %-6s %-8s %-8s %s: %s\n", s.State, s.Host, s.Part, s.Where, s.Look, s.Found)
	}
	return b.String()
}

// why asks a host's linkspan.
func (c *cluster) why(i int, from, to string) (a whyAnswer) {
	c.t.Helper()
	r := c.Daemons[i].Linkspan("why", "--json", from, to)
	if err := json.Unmarshal([]byte(r.Stdout), &a); err != nil {
		c.t.Fatalf("why %s %s on %s: %v: %s%s", from, to, c.name(i), err, r.Stdout, r.Stderr)
	}
	return a
}

// told is why, of hosts that all can be asked: under load one may not answer in time, which
// the answer says.
func (s *whyStage) told(i int, from, to string) (a whyAnswer) {
	s.t.Helper()
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		a = s.why(i, from, to)
		if words := fmt.Sprint(a.Sentence, a.Notes); a.Code != "not-asked" && !strings.Contains(words, "cannot be asked") && !strings.Contains(words, "is not heard of") {
			return a
		}
	}
	s.t.Fatalf("why %s %s on %s: %v", from, to, s.name(i), a)
	return a
}

// whyStage is three hosts whose daemons repair nothing, so that a fault stays: host1 and
// host2 share a link, host3 is behind a router. The servers answer on port 9000.
//
//	plain   overlay                      ann on host1, bob on host2
//	secret  overlay, encrypted           ann, sid on host2
//	flat    routed                       ann, flo on host2 (a direct route), eve on host3 (VXLAN)
//	veil    routed, encrypted            ann, vic on host2
//	dan     on host2, on its own default network only, published on port 9090
type whyStage struct {
	*cluster
	bins  []string
	probe string
	where map[string]*box
	// net is the network that a container shares with ann.
	net map[string]string
}

func newWhyStage(t *testing.T) *whyStage {
	t.Helper()
	s := &whyStage{cluster: &cluster{daemontest.NewTwoLANs(t, 1500, "--repair=false"), t}, probe: daemontest.Netprobe(t), where: map[string]*box{},
		net: map[string]string{"bob": "plain", "sid": "secret", "flo": "flat", "eve": "flat", "vic": "veil", "gus": "plain", "dan": "plain"}}
	s.form()
	one := s.Daemons[0]
	for _, n := range [][]string{{"plain", "-d", "overlay"}, {"secret", "-d", "overlay", "-o", "encrypted"}, {"flat", "-d", "routed"}, {"veil", "-d", "routed", "-o", "encrypted"}} {
		one.Docker(append(append([]string{"network", "create"}, n[1:]...), n[0])...)
	}
	for i, d := range s.Daemons {
		dir := filepath.Join(t.TempDir(), s.name(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, to := range map[string]string{"linkspan": daemontest.Binary(t), "docker": os.Getenv(daemontest.DockerEnv)} {
			if to != "" {
				if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.bins = append(s.bins, dir)
		d.Until(patience, "the networks on "+s.name(i), func() bool { return strings.Contains(d.Docker("network", "ls"), "veil") })
	}
	s.run(0, "docker run -d --name ann --network plain netprobe; for n in secret flat veil; do docker network connect $n ann; done")
	s.run(1, "docker run -d --name bob --network plain netprobe; docker run -d --name sid --network secret netprobe; docker run -d --name flo --network flat netprobe")
	s.run(1, "docker run -d --name vic --network veil netprobe; docker run -d --name dan -p 9090:9000 netprobe")
	s.run(2, "docker run -d --name eve --network flat netprobe")
	t.Cleanup(func() { // before the hosts leave
		for _, d := range s.Daemons {
			if ids := strings.Fields(d.TryDocker("ps", "-aq").Stdout); len(ids) > 0 {
				d.TryDocker(append([]string{"rm", "-f", "-v"}, ids...)...)
			}
		}
		for _, n := range []string{"plain", "secret", "flat", "veil"} {
			s.removed(0, n)
		}
	})
	s.meet(0, "ann")
	for _, n := range []string{"bob", "sid", "flo", "vic", "dan"} {
		s.meet(1, n)
	}
	s.meet(2, "eve")
	for _, n := range []string{"plain", "secret", "flat", "veil"} {
		s.where["ann on "+n] = &box{host: -1, addr: one.Docker("inspect", "-f", "{{(index .NetworkSettings.Networks \""+n+"\").IPAddress}}", "ann")}
	}
	return s
}

// run executes a script on a host as a person would who stands there.
func (s *whyStage) run(host int, script string) {
	s.t.Helper()
	if out, err := s.sh(host, script); err != nil {
		s.t.Fatalf("on %s: %s\n%v\n%s", s.name(host), script, err, out)
	}
}

// whyPrelude: inside CONTAINER COMMAND…: on its network stack, with the host's programs.
const whyPrelude = `inside() { eval "p=\$pid_$1"; shift; nsenter --net=/proc/$p/ns/net -- "$@"; }
`

func (s *whyStage) sh(host int, script string) (string, error) {
	d := s.Daemons[host]
	cmd := d.Host.Command("sh", "-ec", whyPrelude+script)
	cmd.Env = append(d.Env(), "PATH="+s.bins[host]+":"+os.Getenv("PATH"))
	for name := range s.where {
		if s.where[name].host == host {
			cmd.Env = append(cmd.Env, fmt.Sprintf("pid_%s=%d", name, s.pid(name)))
		}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// box is a container of the stage: where it is, and its address on the network where ann
// reaches it.
type box struct {
	host int
	addr string
	pid  int
	// joined: it is on the network that it should share with ann.
	joined bool
}

// meet learns where a container is.
func (s *whyStage) meet(host int, name string) {
	s.t.Helper()
	f := strings.Fields(s.Daemons[host].Docker("inspect", "-f", "{{.State.Pid}}{{range $n, $e := .NetworkSettings.Networks}} {{$n}}={{$e.IPAddress}}{{end}}", name))
	pid, _ := strconv.Atoi(f[0]) // 0: it does not run
	b := &box{host: host, pid: pid}
	for _, on := range f[1:] {
		if n, a, _ := strings.Cut(on, "="); b.addr == "" || n == s.net[name] {
			b.addr, b.joined = a, n == s.net[name]
		}
	}
	s.where[name] = b
}

// pid is a container's, which may have been started again, at another address.
func (s *whyStage) pid(name string) int {
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", s.where[name].pid)); err != nil || !s.where[name].joined && name != "ann" {
		s.meet(s.where[name].host, name)
	}
	return s.where[name].pid
}

// number is a host's, by its name.
func (s *whyStage) number(name string) int {
	for i := range s.Daemons {
		if s.name(i) == name {
			return i
		}
	}
	return -1
}

// dials says whether a container is answered by another one: "bob:9000"; or, by UDP, a
// large packet: "bob:9000/udp".
func (s *whyStage) dials(from, to string) bool {
	name, port, _ := strings.Cut(to, ":")
	s.pid(name)
	a := s.where[name].addr
	if name == "ann" {
		a = s.where["ann on "+s.net[from]].addr
	}
	if a == "" {
		return false // it does not run
	}
	if port, udp := strings.CutSuffix(port, "/udp"); udp {
		return s.large(from, a+":"+port)
	}
	return exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", s.pid(from)), "--", s.probe, "dial", "-timeout", "700ms", "tcp/"+a+":"+port).Run() == nil
}

// large sends a datagram that fills a packet, and hears whether it is echoed: what comes
// back has some words before it.
func (s *whyStage) large(from, to string) bool {
	var conn net.Conn
	err := netns.Do(fmt.Sprintf("/proc/%d/ns/net", s.pid(from)), func() (err error) {
		conn, err = net.Dial("udp", to)
		return err
	})
	if err != nil {
		return false
	}
	defer conn.Close()
	for range 3 {
		_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := conn.Write(make([]byte, 1370)); err != nil {
			continue
		}
		if n, err := conn.Read(make([]byte, 2000)); err == nil && n > 1370 {
			return true
		}
	}
	return false
}

// becomes waits until dialling succeeds, or fails.
func (s *whyStage) becomes(well bool, when string, from, to string) {
	s.t.Helper()
	for end := time.Now().Add(2 * patience); s.dials(from, to) != well; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: %s reaches %s: %v", when, from, to, !well)
		}
	}
}

// on is the stage for a part of the test.
func (s *whyStage) on(t *testing.T) *whyStage {
	part := *s
	part.cluster = &cluster{s.Cluster, t}
	return &part
}
