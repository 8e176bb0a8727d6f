package drivertest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"linkspan/dataplane/linux"
	"linkspan/internal/lab"
	"linkspan/netns"
)

// Kernel is the engine's on a host of a lab: with a table and a folder for pins of its
// own; shared is told of parameters that others use, too. It ends with the test.
func Kernel(t *testing.T, host *lab.Host, table string, shared func(name, prior string) error) (k *linux.Kernel, pins string) {
	t.Helper()
	pins = filepath.Join(t.TempDir(), "pins")
	id := make([]byte, 3)
	rand.Read(id)
	inst, err := linux.Instance(hex.EncodeToString(id))
	if err == nil {
		err = host.Do(func() (err error) {
			k, err = linux.New(linux.Config{Instance: inst, Table: table, PinDir: pins, Log: slog.New(slog.DiscardHandler), OnShared: shared})
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.Close()
		if err := netns.Dismantle(pins); err != nil {
			t.Errorf("leak: %v", err)
		}
	})
	return k, pins
}

// Serve answers "NAME sees ADDRESS" to whoever asks on a port, by both protocols and
// families, in a namespace.
func Serve(t *testing.T, ns, name string, port int) {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	err := netns.Do(ns, func() (err error) {
		if udp, err = net.ListenPacket("udp", fmt.Sprintf(":%d", port)); err == nil {
			tcp, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close(); tcp.Close() })
	say := func(a net.Addr) []byte {
		return fmt.Appendf(nil, "%s sees %s", name, netip.MustParseAddrPort(a.String()).Addr().Unmap())
	}
	go func() {
		b := make([]byte, 64)
		for {
			_, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			udp.WriteTo(say(from), from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			c.Write(say(c.RemoteAddr()))
			c.Close()
		}
	}()
}
