package daemon

import "context"

// followBridges has bridge-nf looked at again when a bridge that is not ours comes
// or goes, until the engine closes. It listens at once and acts when the returned
// function was called: the network has to be there by then.
func (e *engine) followBridges() (act func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	news, err := e.kernel.OthersBridges(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	started, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-started:
		case <-ctx.Done():
		}
		for range news {
			if err := e.network.BridgesChanged(ctx); err != nil && ctx.Err() == nil {
				e.log.Error("a bridge came or went, and bridge-nf could not be set to fit", "err", err)
			}
		}
	}()
	e.undo = append(e.undo, func() error { cancel(); <-done; return nil })
	return func() { close(started) }, nil
}
