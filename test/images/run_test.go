package images

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/internal/ctdtest"
	"linkspan/probe"
)

// machine runs images by containerd's own ctr in one network namespace: the
// images are proved apart from the engine that they are there to prove.
type machine struct {
	t        *testing.T
	netns    string
	socket   string
	registry string
	count    *int // of containers, for their names
	running  map[string]bool
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS, probe.Overlayfs, probe.Containerd, probe.Runc)
	set := whole(t)
	url, stop, err := set.Serve(context.Background(), "", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(stop)
	return &machine{t: t, socket: ctdtest.Start(t), registry: strings.TrimPrefix(url, "http://"), count: new(int)}
}

// in is the machine for one subtest: a network namespace of its own, and
// nothing of it runs on afterwards.
func (m *machine) in(t *testing.T) *machine {
	t.Helper()
	own := *m
	own.t, own.netns, own.running = t, netnsPath(t), map[string]bool{}
	t.Cleanup(func() {
		for name := range own.running {
			own.stop(name)
		}
	})
	return &own
}

func (m *machine) ctr(args ...string) (string, error) {
	line := append([]string{"-a", m.socket, "-n", ctdtest.Namespace}, args...)
	out, err := exec.Command("ctr", line...).CombinedOutput()
	return string(out), err
}

func (m *machine) pull(image string) string {
	m.t.Helper()
	ref := m.registry + "/library/" + image
	if out, err := m.ctr("images", "pull", "--plain-http", ref); err != nil {
		m.t.Fatalf("pull %s: %v\n%s", ref, err, out)
	}
	return ref
}

// start runs an image in the background; options are ctr's, args the command.
func (m *machine) start(image string, options []string, args ...string) (name string) {
	m.t.Helper()
	ref := m.pull(image)
	*m.count++
	name = fmt.Sprintf("c%d", *m.count)
	line := append([]string{"run", "-d", "--with-ns", "network:" + m.netns}, options...)
	if out, err := m.ctr(append(append(line, ref, name), args...)...); err != nil {
		m.t.Fatalf("run %s: %v\n%s", image, err, out)
	}
	m.running[name] = true
	return name
}

func (m *machine) stop(name string) {
	m.t.Helper()
	delete(m.running, name)
	m.ctr("task", "kill", "-s", "KILL", name)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := m.ctr("task", "rm", name); err == nil {
			break
		}
	}
	if out, err := m.ctr("containers", "rm", name); err != nil {
		m.t.Errorf("rm %s: %v\n%s", name, err, out)
	}
}

// once runs an image to its end and returns what it printed.
func (m *machine) once(image string, options []string, args ...string) (string, error) {
	m.t.Helper()
	ref := m.pull(image)
	*m.count++
	line := append([]string{"run", "--rm", "--with-ns", "network:" + m.netns}, options...)
	return m.ctr(append(append(line, ref, fmt.Sprintf("c%d", *m.count)), args...)...)
}

// eventually runs a client on the namespace's loopback until it prints want.
func (m *machine) eventually(want string, env []string, client ...string) {
	m.t.Helper()
	var out []byte
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		cmd := exec.Command("nsenter", append([]string{"--net=" + m.netns}, client...)...)
		cmd.Env = append(os.Environ(), env...)
		if out, err = cmd.CombinedOutput(); err == nil && strings.Contains(string(out), want) {
			return
		}
	}
	m.t.Fatalf("%v does not print %q: %v\n%s", client, want, err, out)
}

func env(vars ...string) (out []string) {
	for _, v := range vars {
		out = append(out, "--env", v)
	}
	return out
}

func bind(source, target string) []string {
	return []string{"--mount", "type=bind,src=" + source + ",dst=" + target + ",options=rbind:rw"}
}

// Every image runs what it is for, asked by the clients that people use.
func TestImagesRun(t *testing.T) {
	m := newMachine(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *machine)
	}{
		{"mysql", mysqlRuns}, {"postgres", postgresRuns}, {"webservers", webServersRun}, {"adminer", adminerRuns}, {"tools", toolsRun}, {"stop", imagesStop},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, m.in(t)) })
	}
}

func mysqlRuns(t *testing.T, m *machine) {
	data, conf := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(conf, "my.cnf"), []byte("[mysqld]\nmax-connections = 77\n"), 0o644))
	mounts := append(bind(data, "/var/lib/mysql"), bind(conf, "/etc/mysql/conf.d")...)

	if out, err := m.once("mysql:latest", nil, "docker-entrypoint.sh", "mysqld"); err == nil || !strings.Contains(out, "MYSQL_ROOT_PASSWORD") {
		t.Errorf("without a password: %v\n%s", err, out)
	}
	// A password that must survive shell and SQL; options as the first word.
	password := `12'34\5"6 $HOME`
	name := m.start("mysql:5.7", append(mounts, env("MYSQL_ROOT_PASSWORD="+password, "MYSQL_DATABASE=shop", "MYSQL_USER=joe", "MYSQL_PASSWORD=pw")...),
		"docker-entrypoint.sh", "--lower_case_table_names=1")
	query := "SELECT CONCAT_WS(' ', CURRENT_USER(), @@max_connections, @@lower_case_table_names)"
	m.eventually("root@% 77 1", nil, "mariadb", "-h127.0.0.1", "-uroot", "-p"+password, "-Ne", query)
	m.eventually("shop", nil, "mariadb", "-h127.0.0.1", "-ujoe", "-ppw", "-Ne", "SHOW DATABASES")
	for _, wrong := range []string{"-uroot", "-uroot -pwrong", "-ujoe", "-unobody"} {
		line := append([]string{"--net=" + m.netns, "mariadb", "-h127.0.0.1"}, strings.Fields(wrong)...)
		if out, err := exec.Command("nsenter", append(line, "-e", "SELECT 1")...).CombinedOutput(); err == nil {
			t.Errorf("logged in with %q:\n%s", wrong, out)
		}
	}
	m.eventually("", nil, "mariadb", "-h127.0.0.1", "-uroot", "-p"+password, "-e", "CREATE TABLE shop.kept (a INT)")
	m.stop(name)
	// The data outlives the container, killed as it was; no password is needed then.
	name = m.start("mysql:latest", mounts, "docker-entrypoint.sh", "mysqld")
	m.eventually("kept", nil, "mariadb", "-h127.0.0.1", "-ujoe", "-ppw", "-Ne", "SHOW TABLES", "shop")
	m.stop(name)

	// A start that was killed while it filled the folder begins again.
	must(t, os.WriteFile(filepath.Join(data, ".initialising"), nil, 0o644))
	m.start("mysql:8", append(mounts, env("MYSQL_ALLOW_EMPTY_PASSWORD=true")...), "docker-entrypoint.sh", "mysqld")
	m.eventually("MariaDB", nil, "mariadb", "-h127.0.0.1", "-uroot", "-Ne", "SELECT VERSION()")
	if exists(filepath.Join(data, ".initialising")) {
		t.Error("a finished start is still marked as unfinished")
	}
}

func postgresRuns(t *testing.T, m *machine) {
	if out, err := m.once("postgres:9.4", nil); err == nil || !strings.Contains(out, "POSTGRES_PASSWORD") {
		t.Errorf("without a password: %v\n%s", err, out)
	}
	data := t.TempDir()
	mount := bind(data, "/var/lib/postgresql/data")
	name := m.start("postgres:latest", append(mount, env("POSTGRES_PASSWORD=it's", "POSTGRES_USER=joe", "POSTGRES_DB=shop")...))
	login := []string{"psql", "-h", "127.0.0.1", "-U", "joe", "-d", "shop", "-Atc"}
	m.eventually("joe shop", []string{"PGPASSWORD=it's"}, append(login, "SELECT current_user || ' ' || current_database()")...)
	m.eventually("CREATE TABLE", []string{"PGPASSWORD=it's"}, append(login, "CREATE TABLE kept (a int)")...)
	m.stop(name)
	m.start("postgres:latest", mount, "docker-entrypoint.sh", "-c", "log_connections=on")
	m.eventually("kept", []string{"PGPASSWORD=it's"}, append(login, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")...)
	hba, err := os.ReadFile(filepath.Join(data, "pg_hba.conf"))
	must(t, err)
	if !strings.Contains(string(hba), "host all all all scram-sha-256") {
		t.Error("clients from elsewhere need no password")
	}
}

func webServersRun(t *testing.T, m *machine) {
	// A pod as in the tour: nginx hands .php to php-fpm over loopback.
	conf := t.TempDir()
	must(t, os.WriteFile(filepath.Join(conf, "site.conf"), []byte(`server {
	listen 80;
	location = /whoami { default_type text/plain; return 200 "src=$remote_addr\n"; }
	location ~ \.php$ {
		include fastcgi_params;
		fastcgi_param SCRIPT_FILENAME /var/www/html$fastcgi_script_name;
		fastcgi_pass 127.0.0.1:9000;
	}
}
`), 0o644))
	m.start("php-fpm:latest", nil)
	m.start("pause:latest", nil)
	nginx := m.start("nginx:latest", bind(conf, "/etc/nginx/conf.d"))
	m.eventually("for /index.php", nil, "curl", "-sf", "http://127.0.0.1/index.php")
	m.eventually("src=127.0.0.1", nil, "curl", "-sf", "http://127.0.0.1/whoami")
	m.stop(nginx)
	nginx = m.start("nginx:latest", nil)
	m.eventually("Welcome to nginx", nil, "curl", "-sf", "http://[::1]/")
	m.eventually("src=127.0.0.1:", nil, "curl", "-sf", "http://127.0.0.1/whoami")
	m.stop(nginx)
	m.start("apache:latest", nil)
	m.eventually("It works!", nil, "curl", "-sf", "http://127.0.0.1/")
	m.start("redis:latest", nil)
	m.eventually("PONG", nil, "redis-cli", "-h", "127.0.0.1", "ping")
}

// Adminer beside MariaDB in one network stack, as people share it.
func adminerRuns(t *testing.T, m *machine) {
	m.start("mysql:latest", env("MYSQL_ROOT_PASSWORD=123456"))
	m.start("adminer:latest", nil)
	at := "http://127.0.0.1:8080/"
	m.eventually("-MariaDB", nil, "curl", "-s", at+"query.php?server=127.0.0.1&username=root&password=123456")
	m.eventually("mysql", nil, "curl", "-s", at+"query.php?server=127.0.0.1:3306&username=root&password=123456&sql=show+databases")
	m.eventually("ERROR 1045", nil, "curl", "-s", at+"query.php?server=127.0.0.1&username=root&password=wrong")
	jar := filepath.Join(t.TempDir(), "jar")
	m.eventually("MySQL version", nil, "curl", "-s", "-L", "-c", jar, "-b", jar,
		"--data-urlencode", "auth[driver]=server", "--data-urlencode", "auth[server]=127.0.0.1",
		"--data-urlencode", "auth[username]=root", "--data-urlencode", "auth[password]=123456", "--data", "auth[db]=", at)
}

func toolsRun(t *testing.T, m *machine) {
	check := `for c in bash ping curl ip dig nc socat netstat iperf3 tcpdump ps traceroute iptables nft conntrack ethtool brctl; do
	command -v $c >/dev/null || echo missing $c; done; ping -c 1 -W 2 127.0.0.1; ping -c1 -W1 192.0.2.1; dig -v`
	out, _ := m.once("centos:7", nil, "bash", "-c", check)
	for _, want := range []string{"1 received", "Network is unreachable", "DiG "} {
		if !strings.Contains(out, want) {
			t.Errorf("centos does not print %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "missing") {
		t.Errorf("centos:\n%s", out)
	}
	// The servers' own images have what the tour types in them.
	for _, image := range []string{"mysql:latest", "postgres:latest", "nginx:latest"} {
		out, err := m.once(image, nil, "/bin/bash", "-c", "ip -o addr show lo && ping -c 1 127.0.0.1")
		if err != nil || !strings.Contains(out, "127.0.0.1/8") {
			t.Errorf("%s: %v\n%s", image, err, out)
		}
	}
	out, err := m.once("busybox:latest", nil, "sh", "-c", "ip -o addr show lo; nc -w1 127.0.0.1 1; netprobe dial tcp/127.0.0.1:1; echo code $?; id")
	if err != nil || !strings.Contains(out, "code 3") || !strings.Contains(out, "uid=0(root)") || !strings.Contains(out, "127.0.0.1/8") {
		t.Errorf("busybox: %v\n%s", err, out)
	}
	m.start("netprobe:latest", nil)
	for _, target := range []string{"tcp/127.0.0.1:9000", "udp/[::1]:9000"} {
		out, err := m.once("busybox:latest", nil, "netprobe", "dial", target)
		if err != nil || !strings.HasPrefix(out, "src=") {
			t.Errorf("%s: %v\n%s", target, err, out)
		}
	}
}

// Each image ends on its own stop signal: pid 1 ignores what it has no handler
// for, and `docker stop` would wait ten seconds for every such container.
func imagesStop(t *testing.T, m *machine) {
	secrets := env("MYSQL_ROOT_PASSWORD=x", "POSTGRES_PASSWORD=x")
	ends := func(names map[string]string) { // container → signal
		time.Sleep(1500 * time.Millisecond) // handlers are set up some time after the start
		for name, signal := range names {
			if out, err := m.ctr("task", "kill", "-s", signal, name); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			out, err := m.ctr("task", "ls")
			must(t, err)
			running := 0
			for name := range names {
				for _, line := range strings.Split(out, "\n") {
					if f := strings.Fields(line); len(f) == 3 && f[0] == name && f[2] == "RUNNING" {
						running++
					}
				}
			}
			if running == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("of %v some do not end:\n%s", names, out)
			}
		}
	}
	// All in one network stack: those that want the same port come one after the other. A
	// shell without a terminal ends by itself.
	batch := map[string]int{"centos": -1, "busybox": -1, "nginx": 1, "netprobe": 1, "mariadb": 1, "python-web": 2}
	for n := range 3 {
		names := map[string]string{}
		for _, image := range Images() {
			if batch[image.Name] == n {
				names[m.start(image.Name+":latest", secrets)] = signalOf(image)
			}
		}
		ends(names)
	}
}

func signalOf(image Image) string {
	if image.Config.StopSignal != "" {
		return image.Config.StopSignal
	}
	return "SIGTERM"
}
