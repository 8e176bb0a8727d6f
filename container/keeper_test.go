package container

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"linkspan/keeper"
)

// startKeeper runs a real keeper until the test ends, as a goroutine: that it
// outlives the daemon is then a matter of not ending it.
func startKeeper(t testing.TB, dir string, log *slog.Logger) *keeper.Client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	socket := filepath.Join(dir, "s")
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- keeper.Serve(ctx, keeper.Config{Socket: socket, Dir: dir, Name: "test", Logger: log, Ready: func() { close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("keeper: %v", err)
	}
	c, err := keeper.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("keeper: %v", err)
		}
	})
	return c
}
