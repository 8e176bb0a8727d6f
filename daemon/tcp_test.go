package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/internal/daemontest"
)

// TestDockerOverTLS: the real docker command on another machine, with a
// certificate and without, and certificates that are renewed while it runs.
func TestDockerOverTLS(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t, dir)
	a.make("server", time.Now().Add(time.Hour), false)
	a.make("cert", time.Now().Add(time.Hour), false) // docker's names in DOCKER_CERT_PATH
	for from, to := range map[string]string{"cert-key.pem": "key.pem"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	addr := "tcp://" + daemontest.HostAddr + ":2376"
	d := daemontest.Start(t, daemontest.Options{Args: []string{"-H", addr, "--tlsverify",
		"--tlscacert", filepath.Join(dir, "ca.pem"), "--tlscert", filepath.Join(dir, "server.pem"), "--tlskey", filepath.Join(dir, "server-key.pem")}})
	config := t.TempDir()
	docker := func(args ...string) (string, error) {
		env := []string{"env", "DOCKER_HOST=" + addr, "DOCKER_CONFIG=" + config, "DOCKER_API_VERSION=", "DOCKER_CONTEXT=", "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + dir}
		return d.Machine.Try(append(append(env, "timeout", "-s", "KILL", "60", "docker"), args...)...)
	}

	for _, c := range []struct{ args, want string }{
		{"version -f {{.Server.Version}}", "0."},
		{"run --rm busybox echo hello", "hello"},
		{"run -d --name tls busybox sleep 600", ""},
		{"exec tls sh -c 'echo out; echo err >&2'", "out"},
		{"network create over-tls", ""},
		{"network connect over-tls tls", ""},
		{"stats --no-stream tls", "tls"},
		{"rm -f tls", "tls"},
		{"network rm over-tls", "over-tls"},
	} {
		out, err := docker(split(c.args)...)
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("docker %s: %v\n%s", c.args, err, out)
		}
	}
	if out, err := d.Machine.Try("sh", "-c", "head -c 3000000 /dev/zero | DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH="+dir+" DOCKER_CONFIG="+config+
		" DOCKER_HOST="+addr+" timeout -s KILL 60 docker run -i --rm busybox wc -c"); err != nil || !strings.Contains(out, "3000000") {
		t.Errorf("stdin through TLS: %v\n%s", err, out)
	}
	if out, err := d.Machine.Try("curl", "-sSk", "-m", "5", "https://"+daemontest.HostAddr+":2376/_ping"); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v\n%s", err, out)
	}
	if out, err := d.Machine.Try("curl", "-sS", "-m", "5", "http://"+daemontest.HostAddr+":2376/_ping"); err == nil && strings.Contains(out, "OK") {
		t.Errorf("without TLS: %s", out)
	}

	// Another authority takes over: who had a certificate has none any more.
	since := time.Now()
	a2 := newAuthority(t, t.TempDir())
	a2.make("server", time.Now().Add(time.Hour), false)
	for _, f := range []string{"ca.pem", "server.pem", "server-key.pem"} {
		b, err := os.ReadFile(filepath.Join(a2.dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.Signal(syscall.SIGHUP)
	d.Until(10*time.Second, "the daemon tells of its reload", func() bool {
		return strings.Contains(d.Docker("events", "--since", since.Format(time.RFC3339Nano), "--until", time.Now().Format(time.RFC3339Nano), "-f", "type=daemon"), "daemon reload")
	})
	if out, err := docker("ps"); err == nil {
		t.Errorf("with a certificate of the old authority: %s", out)
	}
	if d.Docker("ps", "-q") != "" {
		t.Error("the unix socket does not answer as before")
	}
}

// split cuts at spaces, but for what stands in single quotes.
func split(s string) (words []string) {
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

// TestRefusesOpenTCP: the API is not given to the network by a slip.
func TestRefusesOpenTCP(t *testing.T) {
	w := daemontest.NewBareWorld(t)
	bin := daemontest.Binary(t)
	for args, want := range map[string]string{
		"-H tcp://0.0.0.0:2375":                  "refusing to listen on tcp://0.0.0.0:2375 without TLS",
		"-H tcp://127.0.0.1:2376 --tlsverify":    "/etc/linkspan/cert.pem",
		"-b br0 --bip 10.0.0.1/24":               "mutually exclusive options",
		"-H tcp://192.168.1.77:2375 --tls=false": "192.168.1.77",
	} {
		dir := t.TempDir()
		out, err := w.Host.Try(append([]string{"timeout", "-s", "KILL", "20", bin, "daemon", "--data-root", dir + "/d", "--exec-root", dir + "/x"}, strings.Fields(args)...)...)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}
