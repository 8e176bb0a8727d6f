package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"linkspan/api/admin"
	"linkspan/cnm"
	"linkspan/config"
	"linkspan/metrics"
)

// meter serves the metrics at --metrics-addr, which a reload may change, and on the
// API's sockets.
type meter struct {
	*metrics.Metrics
	log *slog.Logger

	mu  sync.Mutex
	at  *scrapeSocket
	srv *http.Server
}

// scrapeSocket is where Prometheus comes; without an address it listens to nobody.
type scrapeSocket struct {
	addr string
	l    net.Listener
	path string // of a unix socket
}

func newMeter(m *metrics.Metrics, log *slog.Logger, at *scrapeSocket) *meter {
	x := &meter{Metrics: m, log: log}
	x.serve(at)
	return x
}

// listenMetrics opens the socket that the configuration names.
func listenMetrics(c *config.Config) (*scrapeSocket, error) {
	s := &scrapeSocket{addr: c.MetricsAddr}
	if s.addr == "" {
		return s, nil
	}
	path, unix := strings.CutPrefix(s.addr, "unix://")
	if !unix {
		l, err := net.Listen("tcp", s.addr)
		if err != nil {
			return nil, cnm.Conflict("metrics cannot be served on %s: %w; choose another --metrics-addr", s.addr, err)
		}
		s.l = l
		return s, nil
	}
	gid, err := groupID(c.Group, c.GroupGiven)
	if err != nil {
		return nil, err
	}
	if s.l, err = listenPrivately(path, gid); err != nil {
		return nil, cnm.Invalid("metrics cannot be served on %s: %w", s.addr, err)
	}
	s.path = path
	return s, nil
}

// listenPrivately makes a unix socket of mode 0660 beside others that make files: in
// a folder of its own, from which it moves when owner and mode are right. (The umask,
// which listenUnix sets, is the whole process's.)
func listenPrivately(path string, gid int) (l net.Listener, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "s")
	if l, err = net.Listen("unix", made); err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err = os.Chown(made, -1, gid); err != nil && os.Geteuid() != 0 {
		err = nil
	}
	if err = errors.Join(err, os.Chmod(made, 0o660)); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// close gives the address back, if nobody serves there yet.
func (s *scrapeSocket) close() {
	if s != nil && s.l != nil {
		_ = s.l.Close()
		if s.path != "" {
			_ = os.Remove(s.path)
		}
		s.l = nil
	}
}

// prepare opens the socket of a changed configuration; nil: it is the same one. The
// present one goes on.
func (x *meter) prepare(c *config.Config) (*scrapeSocket, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.at.addr == c.MetricsAddr {
		return nil, nil
	}
	return listenMetrics(c)
}

// move serves there, and no more where it was.
func (x *meter) move(to *scrapeSocket) {
	if to == nil {
		return
	}
	x.close()
	x.serve(to)
}

func (x *meter) serve(at *scrapeSocket) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at = at
	if at.l == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", x.Handler())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("Linkspan's metrics are at /metrics\n"))
	})
	x.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(x.log.Handler(), slog.LevelDebug)}
	srv, l := x.srv, at.l
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			x.log.Error("metrics are not served any more", "address", at.addr, "error", err)
		}
	}()
	x.log.Info("metrics are served", "address", at.addr, "path", "/metrics")
}

// close ends the serving; scrapes under way get a second.
func (x *meter) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.srv == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := x.srv.Shutdown(ctx); err != nil {
		_ = x.srv.Close()
	}
	x.srv = nil
	x.at.close()
}

// door is GET /linkspan/metrics, on the API's sockets.
func (x *meter) door() admin.Door {
	return admin.Door{Pattern: "GET " + admin.Prefix + "metrics", Serve: x.Handler().ServeHTTP}
}
