package container

import (
	"context"
	"errors"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"linkspan/cnm"
)

// How long containerd may take for an answer. What starts or stops a process
// waits for the disk and for the process; the rest are look-ups.
const (
	quick = 30 * time.Second
	slow  = 5 * time.Minute
)

// runtime is containerd as the engine uses it: its raw services, since every
// round trip of the hot path counts, with fail points around each call and
// errors that speak to a person.
type runtime struct {
	client      *containerd.Client
	namespace   string
	address     string
	snapshotter string
	hook        func(string)

	mu    sync.Mutex
	probe chan struct{} // open while somebody waits for containerd to be back
}

func newRuntime(c *Config) *runtime {
	return &runtime{client: c.Client, namespace: c.Namespace, address: c.Address, snapshotter: c.Snapshotter, hook: c.Hook}
}

// call runs one call of containerd.
func (r *runtime) call(ctx context.Context, point string, limit time.Duration, f func(context.Context) error) error {
	ctx = namespaces.WithNamespace(ctx, r.namespace)
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	r.hook("containerd." + point + ".before")
	err := r.classify(f(ctx))
	r.hook("containerd." + point + ".after")
	return err
}

// classify gives an error that says that containerd is away our class, and all
// others containerd's native ones.
func (r *runtime) classify(err error) error {
	if err == nil {
		return nil
	}
	// Some services answer native errors already, which ToNative would take for
	// unknown ones.
	if _, ok := status.FromError(err); ok {
		err = errgrpc.ToNative(err)
	}
	//lint:ignore SA1019 containerd's client answers with it when its connection was closed
	if errdefs.IsUnavailable(err) || errors.Is(err, grpc.ErrClientConnClosing) || errors.Is(err, context.DeadlineExceeded) || errdefs.IsDeadlineExceeded(err) {
		return cnm.Errorf(cnm.ErrUnavailable, "containerd at %s does not answer: %w; containers keep running", r.address, err)
	}
	return err
}

// whenServing waits until containerd answers. All waiters share one probe.
func (r *runtime) whenServing(ctx context.Context) error {
	r.mu.Lock()
	p := r.probe
	if p == nil {
		p = make(chan struct{})
		r.probe = p
		go r.probing(ctx, p)
	}
	r.mu.Unlock()
	select {
	case <-p:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *runtime) probing(ctx context.Context, p chan struct{}) {
	defer func() {
		r.mu.Lock()
		r.probe = nil
		r.mu.Unlock()
		close(p)
	}()
	for ctx.Err() == nil {
		// The connection's own patience grows to ten seconds, ours does not.
		if conn, ok := r.client.Conn().(*grpc.ClientConn); ok {
			conn.ResetConnectBackoff()
		}
		c, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := r.client.Version(c)
		cancel()
		if err == nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
