package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// grace is how long changes under way may take when the daemon stops.
const grace = 10 * time.Second

type stoppingKey struct{}

// stopping returns the context that ends when the server shuts down, or one
// that never does (a handler without Serve, as in tests).
func stopping(ctx context.Context) context.Context {
	if s, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
		return s
	}
	return context.Background()
}

// Stream is the context of an answer that goes on and on: it ends with its request and,
// before that, when the server stops. For the doors beside this one.
func Stream(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(stopping(r.Context()), cancel)
	return ctx, func() { stop(); cancel() }
}

// Serve answers on all listeners until ctx ends or one of them fails. It then
// ends streams at once, lets changes under way finish for ten seconds, and
// closes the listeners. Hijacked connections (attach, exec) are no longer ours
// and go on.
func Serve(ctx context.Context, h http.Handler, log *slog.Logger, listeners ...net.Listener) error {
	if log == nil {
		log = slog.Default()
	}
	if len(listeners) == 0 {
		return errors.New("the API has no listener")
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	srv := &http.Server{
		Handler: h,
		// As dockerd: a client that connects and says nothing is let go.
		ReadHeaderTimeout: 5 * time.Minute,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), stoppingKey{}, ctx)
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, len(listeners))
	var wg sync.WaitGroup
	for _, l := range listeners {
		wg.Go(func() {
			log.Info("the Engine API answers", "address", l.Addr().String(), "version", MaxVersion.String())
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving the API on %s: %w", l.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	end() // streams first, else they would hold the shutdown up
	bounded, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if serr := srv.Shutdown(bounded); serr != nil {
		log.Warn("requests did not finish in time and are cut off", "after", grace)
		_ = srv.Close()
	}
	wg.Wait()
	return err
}
