package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"linkspan/cnm"
)

// control is one daemon's connection, in the keeper.
type control struct {
	s      *server
	conn   *net.UnixConn
	frames frameReader
	left   sync.WaitGroup // reader, writer, and every running request

	mu      sync.Mutex
	cond    *sync.Cond
	greeted bool
	out     []byte              // frames to be written
	running map[uint64]*running // requests that have not been answered
	closing bool                // write what is left, then close
	gone    bool
	frozen  bool
}

// running is a request at work.
type running struct {
	q      request
	cancel context.CancelCauseFunc
}

// maxOut is how much may wait for a daemon that does not read (it was stopped):
// it is then cut off, and asks Streams() when it is back.
const maxOut = 64 << 20

var (
	errFrozen = errors.New("the keeper is being upgraded")
	errGone   = errors.New("the daemon's connection ended")
)

func newControl(s *server, conn *net.UnixConn) *control {
	c := &control{s: s, conn: conn, frames: frameReader{c: conn}, running: map[uint64]*running{}}
	c.cond = sync.NewCond(&c.mu)
	return c
}

// start serves the connection.
func (c *control) start() {
	c.left.Add(2)
	go func() { defer c.left.Done(); c.read() }()
	go func() { defer c.left.Done(); c.write() }()
}

func (c *control) read() {
	err := c.greet()
	for err == nil {
		var body []byte
		var files []int
		if body, files, err = c.frames.next(); err == nil {
			err = c.take(body, files)
		}
	}
	c.mu.Lock()
	frozen := c.frozen && errors.Is(err, os.ErrDeadlineExceeded)
	c.mu.Unlock()
	if frozen {
		return
	}
	c.frames.discard()
	if errors.Is(err, errGone) {
		return // the writer says why, and closes
	}
	if errors.Is(err, errFrame) {
		c.s.env.logger.Warn("connection to the keeper cut", "err", err)
	}
	c.end()
}

// greet exchanges hellos, unless that was done.
func (c *control) greet() error {
	if c.greeted {
		return nil
	}
	c.mu.Lock()
	if !c.frozen {
		_ = c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	}
	c.mu.Unlock()
	body, files, err := c.frames.next()
	closeAll(files)
	if err != nil {
		return err
	}
	var in hello
	if err := json.Unmarshal(body, &in); err != nil || in.Keeper != "linkspan" {
		return fmt.Errorf("%w: no hello", errFrame)
	}
	answer := hello{Keeper: "linkspan", Protocol: protocol, Version: c.s.cfg.Version}
	if in.Protocol != protocol {
		answer.Error = fmt.Sprintf("this keeper (%s) speaks protocol %d, the daemon (%s) %d: end the keeper, or use the daemon it came with", c.s.cfg.Version, protocol, in.Version, in.Protocol)
	}
	c.send(answer)
	if answer.Error != "" {
		c.mu.Lock()
		c.closing = true
		c.cond.Broadcast()
		c.mu.Unlock()
		return errGone
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.greeted = true
	if !c.frozen {
		return c.conn.SetReadDeadline(noDeadline)
	}
	return nil
}

// take starts one request.
func (c *control) take(body []byte, files []int) error {
	var q request
	if err := json.Unmarshal(body, &q); err != nil || q.ID == 0 {
		closeAll(files)
		return fmt.Errorf("%w: a frame that is no request", errFrame)
	}
	if q.Op == opCancel {
		closeAll(files)
		c.cancel(q)
		return nil
	}
	c.launch(q, files)
	return nil
}

// launch runs a request in a goroutine of its own.
func (c *control) launch(q request, files []int) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c.mu.Lock()
	c.running[q.ID] = &running{q, cancel}
	c.mu.Unlock()
	c.left.Go(func() {
		result, err := c.s.handle(ctx, c, q, files)
		cancel(nil)
		if errors.Is(err, errFrozen) {
			return // it stays in running, and goes on in the next process
		}
		c.answer(q.ID, result, err)
		if q.Op == opShutdown {
			c.s.ask(stopRemove) // after its answer
		}
	})
}

// answer ends a request.
func (c *control) answer(id uint64, result any, err error) {
	r := reply{ID: id}
	if err == nil && result != nil {
		r.Body, err = json.Marshal(result)
	}
	if err != nil {
		r.Body, r.Error = nil, toWire(err)
	}
	c.mu.Lock()
	delete(c.running, id)
	c.mu.Unlock()
	c.send(r)
}

func (c *control) cancel(q request) {
	var b cancelBody
	_ = json.Unmarshal(q.Body, &b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.running[b.Request]; r != nil {
		r.cancel(cnm.Errorf(cnm.ErrUnavailable, "%s: given up by the daemon", r.q.Op))
	}
}

func (c *control) event(event string, body any) {
	raw, err := json.Marshal(body)
	if err == nil {
		c.send(reply{Event: event, Body: raw})
	}
}

// send queues a frame. It never blocks: pumps and clients report through it.
func (c *control) send(v any) {
	frame, err := makeFrame(v, 0)
	if err != nil {
		c.s.env.logger.Error("an answer cannot be sent", "err", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	c.out = append(c.out, frame...)
	c.cond.Broadcast()
	if len(c.out) > maxOut && !c.frozen {
		c.s.env.logger.Warn("the daemon does not read; its connection is cut", "waiting_bytes", len(c.out))
		c.gone = true
		c.conn.Close()
	}
}

func (c *control) write() {
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.closing && !c.gone && !c.frozen {
			c.cond.Wait()
		}
		out := c.out
		c.out = nil
		stop := c.gone || c.frozen || len(out) == 0
		if c.frozen {
			c.out = out
		}
		c.mu.Unlock()
		if stop {
			break
		}
		if n, err := c.conn.Write(out); err != nil {
			c.mu.Lock()
			c.out = append(out[n:], c.out...)
			frozen := c.frozen
			c.mu.Unlock()
			if !frozen {
				c.end()
			}
			return
		}
	}
	c.mu.Lock()
	closing := c.closing && !c.frozen
	c.mu.Unlock()
	if closing {
		_ = c.conn.CloseWrite()
		c.end()
	}
}

// end is the connection's end: what it asked for is given up, what it made
// stays.
func (c *control) end() {
	c.mu.Lock()
	c.gone = true
	for _, r := range c.running {
		r.cancel(errGone)
	}
	c.cond.Broadcast()
	c.mu.Unlock()
	c.conn.Close()
	c.s.mu.Lock()
	delete(c.s.controls, c)
	c.s.mu.Unlock()
}

// finish answers what is ready and closes.
func (c *control) finish() {
	c.mu.Lock()
	c.closing = true
	for _, r := range c.running {
		r.cancel(errGone)
	}
	c.cond.Broadcast()
	c.mu.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	c.left.Wait()
}
