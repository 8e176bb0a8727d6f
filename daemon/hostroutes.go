package daemon

import "context"

// followRoutes has the controller know of changes of the host's routes and
// addresses, so that it need not read all of them for every network, until the
// engine closes.
func (e *engine) followRoutes() error {
	ctx, cancel := context.WithCancel(context.Background())
	news, err := e.kernel.OthersRoutes(ctx)
	if err != nil {
		cancel()
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.network.HostWatched(news)
	}()
	e.undo = append(e.undo, func() error { cancel(); <-done; return nil })
	return nil
}
