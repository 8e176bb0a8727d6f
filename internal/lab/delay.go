package lab

import (
	"bytes"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/netns"
)

// Delay holds back every frame between a host and the switch for so long, in each
// direction, until the lab ends or the answer is called: a relay on packet sockets takes
// the place of the wire's end (tc-netem(8) is not everywhere).
func (s *Switch) Delay(h *Host, by time.Duration) (end func()) {
	t := s.host.lab.t
	t.Helper()
	dev := s.port(h)
	near, far := "rl"+dev, "rf"+dev
	s.host.Run("ip", "link", "add", near, "type", "veth", "peer", "name", far)
	s.host.Run("ip", "link", "set", far, "master", "sw")
	// A relay sees what the card would have finished: checksums and segments are made
	// before the wire.
	h.Run("ethtool", "-K", s.wires[h].DevA, "tx", "off", "tso", "off", "gso", "off")
	for _, d := range []string{near, far} {
		s.host.Run("ethtool", "-K", d, "tx", "off", "tso", "off", "gso", "off")
		s.host.Run("ip", "link", "set", d, "up", "promisc", "on")
	}
	s.host.Run("ip", "link", "set", dev, "nomaster", "promisc", "on")
	var fds [2]int
	for i, d := range []string{dev, near} {
		if err := netns.Do(s.host.NS, func() (err error) { fds[i], err = packetSocket(d); return err }); err != nil {
			t.Fatalf("lab: relay at %s: %v", d, err)
		}
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { relay(fds[0], fds[1], by, stop) })
	running.Go(func() { relay(fds[1], fds[0], by, stop) })
	end = sync.OnceFunc(func() {
		close(stop)
		running.Wait()
		for _, fd := range fds {
			unix.Close(fd)
		}
		s.host.Run("ip", "link", "del", near)
		s.host.Run("ip", "link", "set", dev, "master", "sw", "promisc", "off")
		h.Run("ethtool", "-K", s.wires[h].DevA, "tx", "on", "tso", "on", "gso", "on")
	})
	t.Cleanup(end)
	return end
}

// relay copies what comes in at one socket to the other, later.
func relay(from, to int, by time.Duration, stop <-chan struct{}) {
	type held struct {
		frame []byte
		at    time.Time
	}
	queue := make(chan held, 1<<14) // a switch's buffer: what is over is lost
	var sending sync.WaitGroup
	sending.Go(func() {
		for f := range queue {
			time.Sleep(time.Until(f.at))
			_, _ = unix.Write(to, f.frame)
		}
	})
	defer func() { close(queue); sending.Wait() }()
	buf := make([]byte, 1<<16)
	for {
		n, sa, err := unix.Recvfrom(from, buf, 0)
		if ll, ok := sa.(*unix.SockaddrLinklayer); err == nil && n > 0 && ok && ll.Pkttype != unix.PACKET_OUTGOING {
			select {
			case queue <- held{bytes.Clone(buf[:n]), time.Now().Add(by)}:
			default:
			}
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}
