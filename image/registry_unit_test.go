package image

import (
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/image/imagetest"
)

func TestIsInsecure(t *testing.T) {
	s := New(Config{Insecure: []string{"reg.example:5000", "10.0.0.0/8", "http://plain.example/", "fd00::/8"}})
	for host, want := range map[string]bool{
		"127.0.0.1:5000": true, "127.9.9.9": true, "[::1]:5000": true, "localhost:5000": true, "localhost": true,
		"reg.example:5000": true, "reg.example": false, "reg.example:5001": false, "plain.example": true,
		"10.1.2.3:80": true, "11.1.2.3:80": false, "[fd00::1]:443": true, "[2001:db8::1]:443": false,
		"[::ffff:127.0.0.1]:1": true,
	} {
		if got := s.registry.isInsecure(t.Context(), host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestSetRegistriesLeavesOutNonsense(t *testing.T) {
	s := New(Config{Mirrors: []string{"ftp://x", "nohost", "http://ok:1", "://", "https://ok2/path/"}, Logger: slog.New(slog.DiscardHandler)})
	if len(s.registry.mirrors) != 2 {
		t.Errorf("mirrors %v", s.registry.mirrors)
	}
	s.SetRegistries(nil, nil)
	if len(s.registry.mirrors) != 0 || len(s.registry.networks) != 2 {
		t.Errorf("after a reload: %+v", s.registry)
	}
}

func TestRegistryHost(t *testing.T) {
	for server, want := range map[string]string{
		"": "docker.io", "https://index.docker.io/v1/": "docker.io", "registry-1.docker.io": "docker.io",
		"quay.io": "quay.io", "http://127.0.0.1:5000/v2/": "127.0.0.1:5000", "docker.io": "docker.io",
	} {
		if got := registryHost(server); got != want {
			t.Errorf("%q: %q, want %q", server, got, want)
		}
	}
}

// A registry with a certificate that nobody knows: the answer names both cures,
// and each cure helps.
func TestTLS(t *testing.T) {
	reg := imagetest.Start(t, httptest.NewTLSServer)
	reg.Push(imagetest.Simple("one"), "lib/x:1")
	certs := t.TempDir()
	r := newRig(t, func(c *Config) { c.CertsDir = certs })
	ref := reg.Host() + "/lib/x:1"
	r.registry.networks = nil // loopback would be insecure
	err := r.Pull(t.Context(), ref, "", nil, nil)
	if !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "/etc/docker/certs.d/"+reg.Host()+"/ca.crt") || !strings.Contains(err.Error(), "--insecure-registry "+reg.Host()) {
		t.Errorf("an unknown authority: %v", err)
	}
	dir := filepath.Join(certs, reg.Host())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reg.Certificate().Raw})
	for name, bad := range map[string]string{"ca.crt": "holds no certificate", "client.cert": "missing key client.key", "client.key": "missing client certificate client.cert"} {
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Pull(t.Context(), ref, "", nil, nil); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", name, err)
		}
		_ = os.Remove(f)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), block, 0o600); err != nil {
		t.Fatal(err)
	}
	r.pull(ref)
	_ = os.RemoveAll(dir)
	r.SetRegistries(nil, []string{reg.Host()})
	r.pull(ref)

	plain := imagetest.New(t)
	plain.Push(imagetest.Simple("two"), "lib/y:1")
	r.registry.networks = nil
	err = r.Pull(t.Context(), plain.Host()+"/lib/y:1", "", nil, nil)
	if !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "--insecure-registry "+plain.Host()) {
		t.Errorf("plain http: %v", err)
	}
	r.SetRegistries(nil, []string{plain.Host()})
	r.pull(plain.Host() + "/lib/y:1")
}

func TestMirrorSaysUnknown(t *testing.T) {
	mirror := imagetest.New(t)
	r := newRig(t, func(c *Config) { c.Mirrors = []string{mirror.URL} })
	err := r.Pull(t.Context(), "nosuch", "", nil, nil) // and nobody is at the hub
	if !errors.Is(err, cnm.ErrNotFound) || err.Error() != "manifest for nosuch:latest not found: manifest unknown: manifest unknown" {
		t.Errorf("with a mirror: %v", err)
	}
	mirror.Close()
	if err := r.Pull(t.Context(), "nosuch", "", nil, nil); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("with nobody: %v", err)
	}
}
