package tap_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/reading"
	"linkspan/internal/lab"
)

func TestCapture(t *testing.T) {
	a, b := pair(t)
	var frames heard[reading.Frame]
	ready := make(chan bool)
	ctx, stop := context.WithCancel(t.Context())
	type result struct {
		n   reading.CaptureCount
		err error
	}
	done := make(chan result, 1)
	// udp, by its number in IPv4's header.
	filter := []reading.Instruction{
		{Op: 0x28, K: 12}, {Op: 0x15, Jt: 0, Jf: 3, K: 0x0800},
		{Op: 0x30, K: 23}, {Op: 0x15, Jt: 0, Jf: 1, K: 17},
		{Op: 6, K: 96}, {Op: 6, K: 0},
	}
	go func() {
		n, err := newTap().Capture(ctx, b.NS, reading.CaptureWish{Link: "wan0", Filter: filter, Snap: 96}, func() { close(ready) },
			func(batch []reading.Frame) { frames.take(batch, 0) })
		done <- result{n, err}
	}()
	select {
	case <-ready:
	case r := <-done:
		t.Fatal(r.err)
	}
	a.Run("ping", "-c1", "-W5", "10.9.0.2")
	server := b.ListenPacket("udp", "0.0.0.0:7001")
	defer server.Close()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(buf[:n], from)
		}
	}()
	c, err := a.Dial("udp", "10.9.0.2:7001", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = 300
	for range n {
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	// Those that are still in the ring when it ends are given away too.
	stop()
	r := <-done
	if r.err != nil || r.n.Received != 2*n || r.n.Dropped != 0 {
		t.Errorf("%+v", r)
	}
	in, out := 0, 0
	for _, f := range frames.list() {
		p, ok := reading.ParsePacket(f.Data[14:])
		if !ok || p.Proto != "udp" || len(f.Data) != 96 || f.Length != 14+20+8+1000 || time.Since(f.Time).Abs() > time.Minute {
			t.Fatalf("%+v of %d bytes, %d captured", p, f.Length, len(f.Data))
		}
		if f.Out {
			out++
		} else {
			in++
		}
	}
	if in != n || out != n {
		t.Errorf("%d in, %d out", in, out)
	}
	if _, err := newTap().Capture(t.Context(), b.NS, reading.CaptureWish{Link: "none0", Snap: 96}, nil, nil); err == nil {
		t.Error("it captures at nothing")
	}
}

// TestCaptureBare: an interface without a link header gets one made up.
func TestCaptureBare(t *testing.T) {
	l := lab.New(t)
	h := l.Host("a")
	if _, err := h.Try("ip", "tuntap", "add", "tun0", "mode", "tun"); err != nil {
		t.Logf("this kernel has no tun interfaces, and so none without a link header: %v", err)
		return
	}
	h.Addr("tun0", netip.MustParsePrefix("10.8.0.1/24"))
	// Nobody holds the other end: it has no carrier, and nothing can pass. That the
	// capture begins and ends is all that can be seen.
	ctx, stop := context.WithCancel(t.Context())
	_, err := newTap().Capture(ctx, h.NS, reading.CaptureWish{Link: "tun0", Filter: []reading.Instruction{{Op: 6, K: 96}}, Snap: 96}, stop, func([]reading.Frame) {})
	if err != nil {
		t.Error(err)
	}
}

// TestCaptureGone: it ends when its interface does.
func TestCaptureGone(t *testing.T) {
	_, b := pair(t)
	ready := make(chan bool)
	done := make(chan error, 1)
	go func() {
		_, err := newTap().Capture(t.Context(), b.NS, reading.CaptureWish{Link: "wan0", Snap: 96}, func() { close(ready) }, func([]reading.Frame) {})
		done <- err
	}()
	<-ready
	b.Run("ip", "link", "del", "wan0")
	select {
	case err := <-done:
		if !errors.Is(err, unix.ENODEV) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Error("it goes on without its interface")
	}
}
