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

// Client speaks to a keeper. It keeps one connection; when that breaks, calls
// under way answer cnm.ErrUnavailable and the next call connects again, to the
// same keeper or to the one that replaced it.
type Client struct {
	path, version string

	mu      sync.Mutex
	conn    *clientConn // nil: connect at the next call
	onStdin func(id string)
	closed  bool
}

var _ Keeper = (*Client)(nil)

// clientConn is one connection.
type clientConn struct {
	c       *net.UnixConn
	keeper  hello
	onEvent func(reply)
	lost    chan struct{} // closed when the connection is over

	sending sync.Mutex

	mu       sync.Mutex
	next     uint64
	waiting  map[uint64]chan reply
	attached map[uint64]func(detached bool)
	err      error
}

// Dial connects to a keeper. That there is none is cnm.ErrUnavailable.
func Dial(path string) (*Client, error) { return dialVersion(path, "") }

func dialVersion(path, version string) (*Client, error) {
	c := &Client{path: path, version: version}
	if _, err := c.connection(); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the connection. The keeper and what it holds stay.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn != nil {
		c.conn.c.Close()
		c.conn = nil
	}
	return nil
}

// Lost is closed when the present connection is over: the keeper ended, was
// killed, or cut a daemon that did not read. Supervise uses it.
func (c *Client) Lost() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		over := make(chan struct{})
		close(over)
		return over
	}
	return c.conn.lost
}

// OnStdinClosed sets what is called, in a goroutine of its own, when a stream's
// stdin came to its end and the shim is there: the daemon then calls the task's
// CloseIO, without which the process reads no EOF. What happened while no daemon
// was there is StreamInfo.StdinClosed.
func (c *Client) OnStdinClosed(f func(id string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onStdin = f
}

// connection returns the live connection or makes one.
func (c *Client) connection() (*clientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "keeper: this client was closed")
	}
	if c.conn != nil {
		select {
		case <-c.conn.lost:
		default:
			return c.conn, nil
		}
	}
	conn, err := connect(c.path, c.version, c.handleEvent)
	if err != nil {
		return nil, err
	}
	c.conn = conn
	return conn, nil
}

// connect dials and says hello.
func connect(path, version string, onEvent func(reply)) (*clientConn, error) {
	away := func(err error) error {
		return cnm.Errorf(cnm.ErrUnavailable, "the keeper does not answer on %s: %w", path, err)
	}
	nc, err := net.DialTimeout("unix", path, 5*time.Second)
	if err != nil {
		return nil, away(err)
	}
	uc := nc.(*net.UnixConn)
	cc := &clientConn{
		c: uc, onEvent: onEvent, lost: make(chan struct{}),
		waiting: map[uint64]chan reply{}, attached: map[uint64]func(bool){},
	}
	frames := &frameReader{c: uc}
	_ = uc.SetDeadline(time.Now().Add(5 * time.Second))
	frame, err := makeFrame(hello{Keeper: "linkspan", Protocol: protocol, Version: version}, 0)
	if err == nil {
		err = sendFrame(uc, frame)
	}
	var body []byte
	if err == nil {
		body, _, err = frames.next()
	}
	if err == nil {
		err = json.Unmarshal(body, &cc.keeper)
	}
	if err != nil {
		uc.Close()
		return nil, away(err)
	}
	if cc.keeper.Error != "" || cc.keeper.Keeper != "linkspan" {
		uc.Close()
		return nil, cnm.Unsupported("keeper on %s: %s", path, cc.keeper.Error)
	}
	_ = uc.SetDeadline(noDeadline)
	go cc.read(frames)
	return cc, nil
}

func (cc *clientConn) read(frames *frameReader) {
	var err error
	for {
		var body []byte
		var files []int
		if body, files, err = frames.next(); err != nil {
			break
		}
		closeAll(files) // a keeper sends none
		var r reply
		if err = json.Unmarshal(body, &r); err != nil {
			break
		}
		if r.ID == 0 {
			cc.event(r)
			continue
		}
		cc.mu.Lock()
		ch := cc.waiting[r.ID]
		delete(cc.waiting, r.ID)
		cc.mu.Unlock()
		if ch != nil {
			ch <- r
		}
	}
	frames.discard()
	cc.c.Close()
	cc.mu.Lock()
	cc.err = err
	attached := cc.attached
	cc.attached = nil
	close(cc.lost)
	cc.mu.Unlock()
	// The keeper is gone, and with it the clients that it served.
	for _, ended := range attached {
		go ended(false)
	}
}

// event handles what the keeper says of itself.
func (cc *clientConn) event(r reply) {
	if r.Event != eventEnded {
		cc.onEvent(r)
		return
	}
	var e endedEvent
	if json.Unmarshal(r.Body, &e) != nil {
		return
	}
	cc.mu.Lock()
	ended := cc.attached[e.Attach]
	delete(cc.attached, e.Attach)
	cc.mu.Unlock()
	if ended != nil {
		go ended(e.Detached)
	}
}

func (c *Client) handleEvent(r reply) {
	var b idBody
	if r.Event != eventStdinClosed || json.Unmarshal(r.Body, &b) != nil {
		return
	}
	c.mu.Lock()
	f := c.onStdin
	c.mu.Unlock()
	if f != nil {
		go f(b.ID)
	}
}

// call makes a request and waits for its answer.
// Files ride along.
func (c *Client) call(ctx context.Context, op string, in, out any, files ...*os.File) error {
	cc, err := c.connection()
	if err != nil {
		return err
	}
	return cc.call(ctx, op, in, out, nil, files...)
}

func (cc *clientConn) call(ctx context.Context, op string, in, out any, ended func(bool), files ...*os.File) error {
	q := request{Op: op}
	var err error
	if in != nil {
		if q.Body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	answer := make(chan reply, 1)
	cc.mu.Lock()
	cc.next++
	q.ID = cc.next
	if cc.attached != nil {
		cc.waiting[q.ID] = answer
		if ended != nil {
			cc.attached[q.ID] = ended
		}
	}
	cc.mu.Unlock()
	if err := cc.send(q, files...); err != nil {
		cc.forget(q.ID)
		return cnm.Errorf(cnm.ErrUnavailable, "keeper: %s: %w", op, err)
	}
	select {
	case r := <-answer:
		if r.Error != nil {
			cc.forget(q.ID)
			return r.Error.err()
		}
		if out == nil {
			return nil
		}
		return json.Unmarshal(r.Body, out)
	case <-cc.lost:
		cc.forget(q.ID)
		return cnm.Errorf(cnm.ErrUnavailable, "keeper: %s: the keeper went away", op)
	case <-ctx.Done():
		cc.forget(q.ID)
		body, _ := json.Marshal(cancelBody{q.ID})
		_ = cc.send(request{ID: q.ID, Op: opCancel, Body: body})
		return fmt.Errorf("keeper: %s: %w", op, context.Cause(ctx))
	}
}

// forget takes a request and its attachment off the lists.
func (cc *clientConn) forget(id uint64) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	delete(cc.waiting, id)
	delete(cc.attached, id)
}

// send writes a request. The descriptors of files go along.
func (cc *clientConn) send(q request, files ...*os.File) error {
	frame, err := makeFrame(q, len(files))
	if err != nil {
		return err
	}
	cc.sending.Lock()
	defer cc.sending.Unlock()
	// A keeper that is stopped must not hang the whole daemon.
	_ = cc.c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	sent := false
	err = withFDs(files, nil, func(fds []int) error {
		sent = true
		return sendFrame(cc.c, frame, fds...)
	})
	if err != nil && sent {
		cc.c.Close() // half a frame may be out
	}
	return err
}

// withFDs lends several files' descriptors, see withFD.
func withFDs(files []*os.File, fds []int, use func(fds []int) error) error {
	if len(files) == 0 {
		return use(fds)
	}
	return withFD(files[0], func(fd int) error { return withFDs(files[1:], append(fds, fd), use) })
}

// withFD lends a file's descriptor without os.File.Fd, which would make it
// blocking; the flag is shared with the keeper's copy.
func withFD(f *os.File, use func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var uerr error
	if err := raw.Control(func(fd uintptr) { uerr = use(int(fd)) }); err != nil {
		return err
	}
	return uerr
}

// errNoClient: Attach without a socket.
var errNoClient = errors.New("no client socket")
