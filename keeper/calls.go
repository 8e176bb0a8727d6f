package keeper

import (
	"context"
	"os"
	"time"

	"linkspan/cnm"
)

// Info says who the keeper is.
func (c *Client) Info(ctx context.Context) (info Info, err error) {
	err = c.call(ctx, opInfo, nil, &info)
	return info, err
}

// OpenStream declares a stream.
func (c *Client) OpenStream(ctx context.Context, s StreamSpec) (st Stream, err error) {
	err = c.call(ctx, opOpen, s, &st)
	return st, err
}

// Started says that the shim has the FIFOs open.
func (c *Client) Started(ctx context.Context, id string) error {
	return c.call(ctx, opStarted, idBody{id}, nil)
}

// Drain waits for a stream's end. It has no time limit of its own: a client of
// an exec that does not read, or a process that left a child with its stdout,
// can keep it waiting; bound ctx.
func (c *Client) Drain(ctx context.Context, id string) error {
	return c.call(ctx, opDrain, idBody{id}, nil)
}

// CloseStream forgets a stream.
func (c *Client) CloseStream(ctx context.Context, id string) error {
	return c.call(ctx, opClose, idBody{id}, nil)
}

// CloseStdin ends a process's input; OnStdinClosed is called for it too.
func (c *Client) CloseStdin(ctx context.Context, id string) error {
	return c.call(ctx, opCloseStdin, idBody{id}, nil)
}

// Attach hands a client's socket over. The caller closes its own copies, without
// shutting the socket down, and must not call Fd on them, which would make the
// keeper's copy blocking too. If the call fails the client is still the caller's;
// if ctx ends in the middle, the keeper may have it or not. ended may be nil; it
// is called with false when the attachment ended in any other way than by the
// detach keys, the keeper's death included.
func (c *Client) Attach(ctx context.Context, id string, o AttachOptions, client *os.File, ended func(detached bool)) error {
	if client == nil {
		return cnm.Invalid("attach to stream %s: %w", id, errNoClient)
	}
	if ended == nil {
		ended = func(bool) {}
	}
	cc, err := c.connection()
	if err != nil {
		return err
	}
	return cc.call(ctx, opAttach, attachBody{id, o}, nil, ended, client)
}

// Streams lists what the keeper holds.
func (c *Client) Streams(ctx context.Context) (all []StreamInfo, err error) {
	err = c.call(ctx, opStreams, nil, &all)
	return all, err
}

// Reserve binds all of the requests or none.
func (c *Client) Reserve(ctx context.Context, reqs []PortRequest) error {
	if len(reqs) == 0 {
		return nil
	}
	return c.call(ctx, opReserve, reserveBody{reqs}, nil)
}

// Release gives back everything of an owner. Releasing nothing is success.
func (c *Client) Release(ctx context.Context, owner string) error {
	return c.call(ctx, opRelease, ownerBody{owner}, nil)
}

// Ports lists the reservations, sorted.
func (c *Client) Ports(ctx context.Context) (all []PortRequest, err error) {
	err = c.call(ctx, opPorts, nil, &all)
	return all, err
}

// Retarget changes where forwarders lead. The requests are named by owner,
// protocol, address and ports; a ForwardTo that is not valid makes one silent, and
// a silent one may begin to forward. One that is not held is cnm.ErrNotFound, and
// then nothing changes.
func (c *Client) Retarget(ctx context.Context, reqs []PortRequest) error {
	if len(reqs) == 0 {
		return nil
	}
	return c.call(ctx, opRetarget, reserveBody{reqs}, nil)
}

// Shutdown ends the keeper and everything it holds: for uninstall and tests. It
// returns once the keeper has let go of its connections.
func (c *Client) Shutdown(ctx context.Context) error {
	lost := c.Lost()
	if err := c.call(ctx, opShutdown, nil, nil); err != nil {
		select {
		case <-lost: // it went before its answer had come
			return nil
		case <-time.After(time.Second):
			return err
		}
	}
	select {
	case <-lost:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Upgrade makes the keeper replace itself by another binary of the same keeper,
// with its pid and everything it holds: streams, attached clients, ports,
// forwarded connections, and this connection.
func (c *Client) Upgrade(ctx context.Context, exe string) error {
	return c.call(ctx, opUpgrade, upgradeBody{exe}, nil)
}
