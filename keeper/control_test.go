package keeper

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/probe"
)

// raw connects without the client's manners.
func (k *testKeeper) raw() *net.UnixConn {
	k.t.Helper()
	c, err := net.Dial("unix", filepath.Join(k.dir, "sock"))
	k.must(err)
	k.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.UnixConn)
}

func say(t testing.TB, c *net.UnixConn, v any) {
	t.Helper()
	frame, err := makeFrame(v, 0)
	if err == nil {
		err = sendFrame(c, frame)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestHello(t *testing.T) {
	k := newKeeper(t)
	hear := func(c *net.UnixConn) (h hello) {
		t.Helper()
		body, _, err := (&frameReader{c: c}).next()
		k.must(err)
		k.must(json.Unmarshal(body, &h))
		return h
	}
	c := k.raw()
	say(t, c, hello{Keeper: "linkspan", Protocol: protocol, Version: "new"})
	if h := hear(c); h.Error != "" || h.Protocol != protocol || h.Version != "1" {
		t.Errorf("hello: %+v", h)
	}
	c = k.raw()
	say(t, c, hello{Keeper: "linkspan", Protocol: 99, Version: "2099"})
	if h := hear(c); !strings.Contains(h.Error, "speaks protocol 1, the daemon (2099) 99") {
		t.Errorf("hello: %+v", h)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after a refusal: %v", err)
	}
}

// TestNonsense: whatever arrives, the keeper cuts that connection and serves
// the others.
func TestNonsense(t *testing.T) {
	k := newKeeper(t)
	greeting, _ := makeFrame(hello{Keeper: "linkspan", Protocol: protocol}, 0)
	for name, raw := range map[string][]byte{
		"http":          []byte("GET / HTTP/1.1\r\n\r\n"),
		"no hello":      append(binary.BigEndian.AppendUint32(nil, 2), 0, '{', '}'),
		"huge frame":    append(greeting, 0x7f, 0xff, 0xff, 0xff, 0),
		"not JSON":      append(append(greeting, 0, 0, 0, 3, 0), "abc"...),
		"no request id": append(append(greeting, 0, 0, 0, 2, 0), "{}"...),
		"no descriptor": append(append(greeting, 0, 0, 0, 2, 1), "{}"...),
	} {
		t.Run(name, func(t *testing.T) {
			c := k.raw()
			if _, err := c.Write(raw); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(c)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("the connection was not cut (after %q)", rest)
			}
		})
	}
	if _, err := k.Info(ctxT(t)); err != nil {
		t.Errorf("the others: %v", err)
	}
}

func TestUnknownOperation(t *testing.T) {
	k := newKeeper(t)
	err := k.call(ctxT(t), "levitate", nil, nil)
	if !errors.Is(err, cnm.ErrUnsupported) || !strings.Contains(err.Error(), `does not know "levitate"`) {
		t.Errorf("got %v", err)
	}
	if err := k.call(ctxT(t), opOpen, []int{1}, nil); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("a body of the wrong kind: %v", err)
	}
	if err := k.Release(ctxT(t), ""); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("release of everyone: %v", err)
	}
}

// TestManyAtOnce: calls of one connection do not wait for each other, also not
// for one that waits for ever.
func TestManyAtOnce(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS)
	k := newKeeper(t)
	k.declare(StreamSpec{ID: "running"})
	drain, cancel := context.WithCancel(context.Background())
	drained := make(chan error, 50)
	for range cap(drained) {
		go func() { drained <- k.Drain(drain, "running") }()
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			id := fmt.Sprint("c", i)
			if _, err := k.OpenStream(ctxT(t), StreamSpec{ID: id, LogPath: filepath.Join(k.dir, id)}); err != nil {
				t.Error(err)
			}
			if err := k.Reserve(ctxT(t), []PortRequest{req(id, "tcp", "127.0.0.1", uint16(5000+i))}); err != nil {
				t.Error(err)
			}
			if err := k.Release(ctxT(t), id); err != nil {
				t.Error(err)
			}
			if err := k.CloseStream(ctxT(t), id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cancel()
	for range cap(drained) {
		if err := <-drained; !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled drain: %v", err)
		}
	}
	if all, err := k.Streams(ctxT(t)); err != nil || len(all) != 1 {
		t.Errorf("streams: %v %v", all, err)
	}
	// What the daemon gave up, the keeper gives up too.
	eventually(t, "no request is under way", func() bool { return strings.Count(goroutines(), "(*stream).drain") == 0 })
}

// TestBigReply: lists that are longer than a socket's buffer.
func TestBigReply(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS)
	k := newKeeper(t)
	var reqs []PortRequest
	for i := range 3000 {
		reqs = append(reqs, req(strings.Repeat("o", 100), "tcp", "127.0.0.1", uint16(10000+i)))
	}
	began := time.Now()
	k.must(k.Reserve(ctxT(t), reqs))
	t.Logf("3,000 requests in one call: %v", time.Since(began))
	got, err := k.Ports(ctxT(t))
	if err != nil || len(got) != len(reqs) {
		t.Errorf("%d ports, %v", len(got), err)
	}
	began = time.Now()
	k.must(k.Release(ctxT(t), reqs[0].Owner))
	t.Logf("released: %v", time.Since(began))
}

// TestKeeperAway: without a keeper calls say so, and work again with the next.
func TestKeeperAway(t *testing.T) {
	k, cfg := newProcess(t)
	k.must(k.Shutdown(ctxT(t)))
	if _, err := k.Info(ctxT(t)); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("without a keeper: %v", err)
	}
	next, started, err := Ensure(ctxT(t), cfg)
	if err != nil || !started {
		t.Fatalf("started %v, %v", started, err)
	}
	next.Close()
	if _, err := next.Info(ctxT(t)); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("a closed client: %v", err)
	}
	if _, err := k.Info(ctxT(t)); err != nil {
		t.Errorf("the old client with the new keeper: %v", err)
	}
}

// TestSocketIsPrivate: its mode, and a leftover of a killed keeper is no
// obstacle.
func TestSocketIsPrivate(t *testing.T) {
	k := newKeeper(t)
	info, err := os.Stat(filepath.Join(k.dir, "sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	err = Serve(context.Background(), Config{Socket: filepath.Join(k.dir, strings.Repeat("s", 120)), Dir: filepath.Join(k.dir, "other")})
	if !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("a path that is too long: %v", err)
	}
	err = Serve(context.Background(), Config{Socket: filepath.Join(k.dir, "s2"), Dir: filepath.Join(k.dir, "k")})
	if !errors.Is(err, ErrRunning) || !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("a second keeper: %v", err)
	}
}

// FuzzHandle sends the server whole requests with any operation and body.
func FuzzHandle(f *testing.F) {
	for _, op := range []string{opInfo, opOpen, opStarted, opClose, opCloseStdin, opAttach, opStreams, opPorts, opRelease, opReserve, opResolvers} {
		f.Add(op, []byte(`{"id":"x"}`))
	}
	f.Add(opReserve, []byte(`{"requests":[{"Owner":"a","Proto":"tcp","Addr":"::ffff:1.2.3.4","Port":1,"PortEnd":0}]}`))
	f.Add(opOpen, []byte(`{"ID":"..","TTY":true}`))
	dir := f.TempDir()
	s := newServer(Config{Dir: dir})
	f.Fuzz(func(t *testing.T, op string, body []byte) {
		switch op {
		case opDrain, opUpgrade, opShutdown:
			return
		case opOpen:
			var spec StreamSpec
			if json.Unmarshal(body, &spec) == nil && spec.LogPath != "" {
				return // it would write where it is told
			}
		case opReserve:
			var b reserveBody
			if json.Unmarshal(body, &b) == nil {
				for _, q := range b.Requests {
					_, _ = q.check(0)
				}
			}
			return
		}
		_, err := s.handle(context.Background(), nil, request{ID: 1, Op: op, Body: body}, nil)
		if err != nil && toWire(err).Class == "" {
			t.Errorf("%s %q: an error of no class: %v", op, body, err)
		}
		outside, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, p := range outside {
			if filepath.Base(p) != "io" {
				t.Fatalf("%s %q made %s", op, body, p)
			}
		}
		for _, st := range s.listStreams() {
			if err := s.closeStream(st.ID); err != nil {
				t.Fatal(err)
			}
		}
	})
}
