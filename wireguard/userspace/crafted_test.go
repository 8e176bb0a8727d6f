package userspace_test

import (
	"encoding/binary"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCrafted: packets that claim to be streams to be cut, and are none, harm nobody.
func TestCrafted(t *testing.T) {
	a, b, _ := world(t)
	a.pings(b.inner4)
	s := a.streamTo(b, "x")
	s.moves(50)
	header := func(flags, gso byte, hdrLen, size, start, offset uint16) []byte {
		h := []byte{flags, gso, 0, 0, 0, 0, 0, 0, 0, 0} // virtio_net_hdr
		for i, v := range []uint16{hdrLen, size, start, offset} {
			binary.NativeEndian.PutUint16(h[2+2*i:], v)
		}
		return h
	}
	packet := func(doff byte, size int) []byte {
		p := make([]byte, size)
		p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_TCP
		binary.BigEndian.PutUint16(p[2:], uint16(size))
		copy(p[12:], a.inner4.AsSlice())
		copy(p[16:], b.inner4.AsSlice())
		p[32] = doff << 4
		return p
	}
	sent := 0
	if err := a.Do(func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(binary.NativeEndian.Uint16([]byte{8, 0})))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		to := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16([]byte{8, 0}), Ifindex: i.Index}
		for name, p := range map[string][]byte{
			"a TCP header of 4 bytes":   append(header(1, 1, 40, 500, 20, 16), packet(1, 3000)...),
			"of 60 in 44":               append(header(1, 1, 40, 500, 20, 16), packet(15, 44)...),
			"IPv6 that is IPv4":         append(header(1, 4, 40, 500, 20, 16), packet(5, 3000)...),
			"segments of one byte":      append(header(1, 1, 40, 1, 20, 16), packet(5, 3000)...),
			"a checksum at the end":     append(header(1, 0, 0, 0, 20, 1978), packet(5, 2000)...),
			"a checksum beyond the end": append(header(1, 0, 0, 0, 20, 5000), packet(5, 2000)...),
			"no packet":                 header(0, 0, 0, 0, 0, 0),
			"one byte":                  append(header(0, 0, 0, 0, 0, 0), 0x45),
			"UDP that is TCP":           append(header(1, 5, 28, 500, 20, 6), packet(5, 3000)...),
		} {
			err := unix.Sendto(fd, p, 0, to)
			t.Logf("%s: %v", name, err)
			if err == nil {
				sent++
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if sent == 0 {
		t.Error("the kernel took none")
	}
	s.moves(200)
	s.end()
	if st := a.status(); st.Err != "" {
		t.Error(st.Err)
	}
	if pid := a.process.PID(); unix.Kill(pid, 0) != nil {
		t.Error("the keeper is gone")
	}
	a.pings(b.inner4)
}
