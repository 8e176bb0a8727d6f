package badinput

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"linkspan/internal/daemontest"
)

// refusal is one command that cannot be done.
type refusal struct {
	name string
	args []string
	// status is what the API answered in the end, 0 when the CLI itself refuses;
	// words are all in the message. They are dockerd's (20.10, looked at side by side)
	// but where it makes the container first and fails its start: an unknown network or
	// container to join (404 there) and one host port twice (500) are 400 here, at once.
	status int
	words  []string
	// code is docker's exit code; "no such file or directory" in a message makes it
	// 127, whatever is missing.
	code int
}

// run prefixes the words of a container that would run.
func run(flags ...string) []string {
	return append(append([]string{"run", "-d"}, flags...), "netprobe")
}

const id12 = "{{id}}" // stands for the short id of the container "holder"

var refusals = []refusal{
	{"port taken by a container", run("-p", "8080:9000"), 500,
		[]string{"driver failed programming external connectivity on endpoint", "Bind for 0.0.0.0:8080 failed: port is already allocated", "container holder (" + id12 + ") publishes it; stop it or choose another port"}, 125},
	{"the same port of one address", run("-p", "127.0.0.1:8080:9000"), 500,
		[]string{"Bind for 127.0.0.1:8080 failed: port is already allocated", "container holder (" + id12 + ")"}, 125},
	{"a range that meets it", run("-p", "8078-8081:9000-9003"), 500, []string{"Bind for 0.0.0.0:8080 failed", "container holder (" + id12 + ")"}, 125},
	{"all of a range taken", run("-p", "8080-8081:9000"), 500,
		[]string{"all ports are allocated: no port of 8080-8081/tcp is free", "8080 by container holder (" + id12 + ")", "8081 by container holder", "give a wider range"}, 125},
	{"port taken by a process", run("-p", "7777:9000"), 500,
		[]string{"Bind for 0.0.0.0:7777 failed", "address already in use: held by netprobe (pid {{pid}}); stop it or publish another port"}, 125},
	{"udp port taken by a process", run("-p", "7777:9000/udp"), 500, []string{"0.0.0.0:7777 failed", "netprobe (pid {{pid}})"}, 125},
	{"port taken on ::1 alone", run("-p", "7779:9000"), 500, []string{"Bind for [::]:7779 failed", "held by netprobe (pid {{pid}})"}, 125},
	{"port bound and silent", run("-p", "7778:9000"), 500, []string{"Bind for 0.0.0.0:7778 failed", "address already in use by a process that could not be found (try: ss -lntup 'sport = 7778')"}, 125},
	{"an address that the host has not", run("-p", "203.0.113.7:8091:9000"), 500,
		[]string{"Bind for 203.0.113.7:8091 failed: cannot assign requested address", "203.0.113.7 is not an address of this host", "publish on one that is"}, 125},
	{"one port twice", run("-p", "8091:9000", "-p", "8091:9001"), 400, []string{"want the same host port"}, 125},

	{"unknown image", []string{"run", "-d", "no-such-image"}, 404, []string{"no-such-image"}, 125},
	{"unknown tag", []string{"run", "-d", "netprobe:no-such-tag"}, 404, []string{"netprobe:no-such-tag"}, 125},
	{"unknown image, not pulled", []string{"create", "--pull=never", "no-such-image"}, 404, []string{"No such image: no-such-image:latest"}, 1},
	{"unknown image inspected", []string{"image", "inspect", "no-such-image"}, 404, []string{"No such image: no-such-image"}, 1},
	{"unknown image removed", []string{"rmi", "no-such-image"}, 404, []string{"No such image: no-such-image"}, 1},
	{"unknown image tagged", []string{"tag", "no-such-image", "other"}, 404, []string{"No such image: no-such-image"}, 1},
	{"bad image name", []string{"pull", "UPPER"}, 0, []string{"invalid reference format: repository name (library/UPPER) must be lowercase"}, 1},
	{"unknown container started", []string{"start", "nobody"}, 404, []string{"No such container: nobody"}, 1},
	{"unknown container stopped", []string{"stop", "nobody"}, 404, []string{"No such container: nobody"}, 1},
	{"unknown container removed", []string{"rm", "nobody"}, 404, []string{"No such container: nobody"}, 1},
	{"unknown container entered", []string{"exec", "nobody", "ls"}, 404, []string{"No such container: nobody"}, 1},
	{"unknown container read", []string{"logs", "nobody"}, 404, []string{"No such container: nobody"}, 1},
	{"unknown container's ports", []string{"port", "nobody"}, 404, []string{"No such container: nobody"}, 1},
	{"unknown network", run("--network", "nowhere"), 400, []string{"network nowhere not found"}, 125},
	{"unknown network inspected", []string{"network", "inspect", "nowhere"}, 404, []string{"network nowhere not found"}, 1},
	{"name in use", run("--name", "holder"), 409,
		[]string{`Conflict. The container name "/holder" is already in use by container "{{full}}". You have to remove (or rename) that container to be able to reuse that name.`}, 125},
	{"renamed to a name in use", []string{"rename", "stopped", "holder"}, 409, []string{`The container name "/holder" is already in use by container "{{full}}"`}, 1},
	{"bad name", run("--name", "no/slash"), 400, []string{"Invalid container name (no/slash), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"}, 125},
	{"a running container removed", []string{"rm", "holder"}, 409, []string{"cannot remove container", "holder", "container is running: stop the container before removing or force remove"}, 1},
	{"a stopped container entered", []string{"exec", "stopped", "ls"}, 409, []string{"is not running"}, 1},
	{"a stopped container killed", []string{"kill", "stopped"}, 409, []string{"is not running"}, 1},

	{"port that is no number", run("-p", "http:80"), 0, []string{"http"}, 125},
	{"port too large", run("-p", "8080:70000"), 0, []string{"70000"}, 125},
	{"four parts", run("-p", "127.0.0.1::8080:9000"), 0, []string{"invalid IP address: 127.0.0.1:"}, 125},
	{"ranges of two lengths", run("-p", "8000-8010:9000-9002"), 0, []string{"invalid ranges specified for container and host Ports"}, 125},
	{"bad protocol", run("-p", "8080:80/icmp"), 0, []string{"icmp"}, 125},
	{"bad address to publish on", run("-p", "300.1.1.1:8080:80"), 0, []string{"300.1.1.1"}, 125},
	{"bad MAC", run("--mac-address", "02:42:zz"), 0, []string{"02:42:zz"}, 125},
	{"a group's MAC", run("--mac-address", "01:00:5e:00:00:01"), 400, []string{"invalid MAC address: 01:00:5e:00:00:01 is a group's"}, 125},
	{"MAC of eight bytes", run("--mac-address", "02:42:ac:11:00:02:00:01"), 400, []string{"it has 8 bytes, an Ethernet address has 6"}, 125},
	{"MAC of nobody", run("--mac-address", "00:00:00:00:00:00"), 400, []string{"it is all zero"}, 125},
	{"MAC with the host's network", run("--network", "host", "--mac-address", "02:42:00:00:00:01"), 400, []string{"conflicting options: mac-address and the network mode"}, 125},
	{"a group's address to publish on", run("-p", "224.0.0.1:8091:80"), 400, []string{"224.0.0.1 belongs to a group", "write an address of this host"}, 125},
	{"a link-local address to publish on", run("-p", "[fe80::1]:8091:80"), 501, []string{"link-local address fe80::1", "publish on a global address of this host"}, 125},
	{"--ip without a network", run("--network", "none", "--ip", "10.0.0.1"), 400, []string{"user specified IP address is supported on user defined networks only"}, 125},
	{"--ip on the default bridge", run("--ip", "172.17.0.9"), 400, []string{"user specified IP address is supported on user defined networks only"}, 125},
	{"an alias on the default bridge", run("--network-alias", "db"), 0, []string{"network-scoped aliases are only supported for user-defined networks"}, 125},
	{"bad address", run("--ip", "172.17.0"), 400, []string{`invalid IP address "172.17.0"`, "IPv4 address too short"}, 125},
	{"bad env", run("-e", "=x"), 0, []string{"=x"}, 125},
	{"bad signal", []string{"kill", "-s", "NOSUCH", "holder"}, 400, []string{"NOSUCH"}, 1},
	{"bad stop signal", run("--stop-signal", "NOSUCH"), 400, []string{"NOSUCH"}, 125},
	{"stop signal that is none", run("--stop-signal", "99"), 400, []string{"invalid signal: 99"}, 125},
	{"stop signal below 1", run("--stop-signal", "-1"), 400, []string{"invalid signal: -1"}, 125},
	{"signal that is none", []string{"kill", "-s", "99", "holder"}, 400, []string{"99"}, 1},
	{"bad working folder", run("-w", "rel/ative"), 400, []string{"the working directory 'rel/ative' is invalid, it needs to be an absolute path"}, 125},
	{"bad sysctl", run("--sysctl", "kernel.panic=1"), 0, []string{"kernel.panic"}, 125},
	{"sysctl of the host's network", run("--network", "host", "--sysctl", "net.ipv4.ip_forward=0"), 400, []string{"net.ipv4.ip_forward"}, 125},
	{"sysctl that the kernel has not", run("--sysctl", "net.foo.bar=1"), 400, []string{"this kernel, or this link, has no parameter net/foo/bar"}, 127},
	{"sysctl value that the kernel does not take", run("--sysctl", "net.ipv4.ip_forward=abc"), 400, []string{"net/ipv4/ip_forward: invalid argument"}, 125},
	{"no such command", []string{"run", "-d", "busybox", "no-such-command"}, 400, []string{`exec: "no-such-command": executable file not found in $PATH`}, 127},
	{"a bind source that is missing", run("--mount", "type=bind,src=/no/such,dst=/x"), 400, []string{"bind source path does not exist: /no/such"}, 125},

	{"the network of a missing container", run("--network", "container:nobody"), 400, []string{"No such container: nobody"}, 125},
	{"the network of a stopped container", run("--network", "container:stopped"), 409, []string{"cannot join network of a non running container: {{stopped}}"}, 125},
	{"the network of itself", run("--name", "selfish", "--network", "container:selfish"), 400, []string{"No such container: selfish"}, 125},
	{"-p with a container's network", run("--network", "container:holder", "-p", "8091:80"), 400, []string{"conflicting options: port publishing and the container type network mode"}, 125},
	{"-P with a container's network", run("--network", "container:holder", "-P"), 400, []string{"conflicting options: port publishing and the container type network mode"}, 125},
	{"--expose with a container's network", run("--network", "container:holder", "--expose", "80"), 400, []string{"conflicting options: port exposing and the container type network mode"}, 125},
	{"-h with a container's network", run("--network", "container:holder", "-h", "name"), 400, []string{"conflicting options: hostname and the network mode"}, 125},
	{"a container's network and another", run("--network", "container:holder", "--network", "bridge"), 400, []string{"conflicting options", "cannot be connected to any other network"}, 125},
	{"the host's network and another", run("--network", "bridge", "--network", "host"), 400, []string{"a container on network host cannot be connected to any other network"}, 125},
	{"no network and another", run("--network", "bridge", "--network", "none"), 400, []string{"a container on network none cannot be connected to any other network"}, 125},
	{"the predefined network removed", []string{"network", "rm", "bridge"}, 403, []string{"bridge", "pre-defined network"}, 1},
}

// TestRefused: the real CLI's commands.
func TestRefused(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("pull", "-q", "busybox")
	d.Docker("pull", "-q", "netprobe")
	d.Docker("run", "-d", "--name", "holder", "-p", "8080-8081:9000-9001", "netprobe")
	d.Docker("create", "--name", "stopped", "netprobe")
	probe := daemontest.Netprobe(t)
	server := d.Host.Command(probe, "serve", "tcp/0.0.0.0:7777", "udp/0.0.0.0:7777", "tcp/[::1]:7779")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Signal(os.Interrupt); _ = server.Wait() }()
	for range 3 { // "listening tcp/0.0.0.0:7777", and so on
		if _, err := fmt.Fscanln(out, new(string), new(string)); err != nil {
			t.Fatal(err)
		}
	}
	quiet := -1 // bound, but it does not listen
	if err := d.Host.Do(func() (err error) {
		if quiet, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = unix.Bind(quiet, &unix.SockaddrInet4{Port: 7778})
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(quiet)
	id := func(name string) string { return d.Docker("inspect", "-f", "{{.Id}}", name) }
	full := id("holder")
	fill := strings.NewReplacer(id12, full[:12], "{{full}}", full, "{{stopped}}", id("stopped"), "{{pid}}", fmt.Sprint(server.Process.Pid))
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			e := open(t, d)
			e.clean()
			r, failed := e.cli(c.args...)
			// A run that failed at its start leaves the container, created, as Docker
			// does; the person removes it.
			leftovers(t, e, r)
			if c.status != 404 && (strings.Contains(r.Stderr, "Unable to find image") || len(failed) > 1) {
				t.Errorf("the CLI was led astray: %s%+v", r.Stderr, failed)
			}
			if r.Code != c.code {
				t.Errorf("exit code %d, want %d: %s%s", r.Code, c.code, r.Stdout, r.Stderr)
			}
			said := r.Stderr
			if c.status == 0 {
				if len(failed) > 0 {
					t.Errorf("the API was asked: %+v", failed)
				}
			} else if len(failed) == 0 {
				t.Fatalf("no request failed: %s%s", r.Stdout, r.Stderr)
			} else if last := failed[len(failed)-1]; last.Status != c.status {
				t.Errorf("%s %s: status %d, want %d: %s", last.Method, last.Path, last.Status, c.status, last.Body)
			}
			for _, w := range c.words {
				if w = fill.Replace(w); !strings.Contains(said, w) {
					t.Errorf("said %q, want %q in it", said, w)
				}
			}
		})
	}
}

// leftovers removes what `docker run` made before the start that failed.
func leftovers(t *testing.T, e *engine, r daemontest.Result) {
	t.Helper()
	if id := strings.TrimSpace(r.Stdout); len(id) == 64 {
		e.Docker("rm", id)
	}
}
