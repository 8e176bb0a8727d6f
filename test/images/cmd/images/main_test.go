package main

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"linkspan/probe"
)

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"build", "-nonsense"}} {
		if err := run(context.Background(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("run %v: no error", args)
		}
	}
	var a, b bytes.Buffer
	for _, out := range []*bytes.Buffer{&a, &b} {
		if err := run(context.Background(), []string{"key"}, out, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	if a.String() != b.String() || len(strings.TrimSpace(a.String())) != 24 {
		t.Errorf("key: %q, then %q", a.String(), b.String())
	}
}

func TestVerbs(t *testing.T) {
	probe.Require(t, probe.Root, probe.Overlayfs)
	ctx := context.Background()
	for _, test := range []struct {
		args   []string
		prints string
		fails  string
	}{
		{args: []string{"build"}, prints: "images ready"},
		{args: []string{"list"}, prints: "latest,5.7,8"},
		{args: []string{"tarball"}, fails: "name one"},
		{args: []string{"tarball", "nonsense"}, fails: `no test image "nonsense"`},
		{args: []string{"dance"}, fails: `unknown verb "dance"`},
	} {
		var out bytes.Buffer
		err := run(ctx, test.args, &out, io.Discard)
		switch {
		case test.fails == "" && (err != nil || !strings.Contains(out.String(), test.prints)):
			t.Errorf("%v: %v, prints %q", test.args, err, out.String())
		case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
			t.Errorf("%v: %v, want an error that says %q", test.args, err, test.fails)
		}
	}
	var out bytes.Buffer
	if err := run(ctx, []string{"tarball", "pause"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(&out)
	var names []string
	for {
		h, err := tr.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); !strings.HasSuffix(got, "oci-layout index.json manifest.json") {
		t.Errorf("tarball holds %s", got)
	}
}

// serve prints where it listens, once it does, and ends with its context.
func TestServe(t *testing.T) {
	probe.Require(t, probe.Root, probe.Overlayfs)
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"serve", "-addr", "127.0.0.1:0"}, w, io.Discard)
		w.Close()
	}()
	line := make([]byte, 100)
	n, err := r.Read(line)
	if err != nil || !strings.HasPrefix(string(line[:n]), "http://127.0.0.1:") {
		t.Errorf("serve prints %q, %v", line[:n], err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
