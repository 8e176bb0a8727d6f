package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/config"
	"linkspan/metrics"
)

func scrapeAt(addr string) (string, error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if path, ok := strings.CutPrefix(addr, "unix://"); ok {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}}}
	r, err := c.Get("http://metrics/metrics")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

// TestMeter: metrics are served where the configuration says, move at a reload, and
// leave nothing behind.
func TestMeter(t *testing.T) {
	dir := t.TempDir()
	sock := "unix://" + filepath.Join(dir, "a", "m.sock")
	cfg := func(addr string) *config.Config { return &config.Config{MetricsAddr: addr} }
	at, err := listenMetrics(cfg(sock))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenMetrics(cfg(sock)); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "another daemon answers") {
		t.Errorf("a second one: %v", err)
	}
	x := newMeter(metrics.New(metrics.Sources{Version: "7"}), slog.New(slog.DiscardHandler), at)
	if out, err := scrapeAt(sock); err != nil || !strings.Contains(out, `version="7"`) {
		t.Errorf("%v %s", err, out)
	}
	if st, err := os.Stat(filepath.Join(dir, "a", "m.sock")); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("%v %v", st, err)
	}
	if same, err := x.prepare(cfg(sock)); same != nil || err != nil {
		t.Errorf("the same address: %v %v", same, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp := l.Addr().String()
	if _, err := x.prepare(cfg(tcp)); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "--metrics-addr") {
		t.Errorf("a port that is taken: %v", err)
	}
	l.Close()
	if out, err := scrapeAt(sock); err != nil || out == "" {
		t.Errorf("after a refused reload: %v", err)
	}
	to, err := x.prepare(cfg(tcp))
	if err != nil {
		t.Fatal(err)
	}
	x.move(to)
	if out, err := scrapeAt(tcp); err != nil || !strings.Contains(out, `version="7"`) {
		t.Errorf("moved: %v %s", err, out)
	}
	if _, err := scrapeAt(sock); err == nil {
		t.Error("the old address still answers")
	}
	none, err := x.prepare(cfg(""))
	if err != nil {
		t.Fatal(err)
	}
	x.move(none)
	if _, err := scrapeAt(tcp); err == nil {
		t.Error("metrics were turned off, and answer")
	}
	x.close()
	if left, _ := filepath.Glob(filepath.Join(dir, "a", "*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "a", ".*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
