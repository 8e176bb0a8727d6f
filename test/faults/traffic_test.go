package faults

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"linkspan/netns"
)

const (
	// patience is what anything that must happen may take.
	patience = 20 * time.Second
	// lost is when a packet that did not come back is lost; nothing here is further
	// than three veths away. Slow machines see more faults, never fewer.
	lost = 250 * time.Millisecond
	// bulk is more than fits into one packet, and into the first window of TCP.
	bulkBytes = 256 << 10
)

// reaches has A try until it reaches B.
func (s *stage) reaches(t *testing.T, when, a, from, try string) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = s.dial(a, from, try, 8*lost); err == nil {
			return
		}
	}
	t.Fatalf("%s: %s does not reach %s: %v", when, a, s.expand(try), err)
}

// fails has A try once, in vain.
func (s *stage) fails(t *testing.T, a, from, try string) {
	t.Helper()
	if s.dial(a, from, try, lost) == nil {
		t.Fatalf("there is no fault: %s reaches %s", a, s.expand(try))
	}
}

// dial makes one connection from A and wants the server's answer.
func (s *stage) dial(a, from, try string, wait time.Duration) error {
	try = s.expand(try)
	if addr, ok := strings.CutPrefix(try, "bulk/"); ok {
		return s.bulk(a, addr, wait)
	}
	enter, program := s.place(a)
	args := append(enter, "--", program, "dial", "-timeout", wait.String())
	if _, addr, ok := strings.Cut(a, ":"); ok && from == "" {
		from = addr
	}
	if from != "" {
		args = append(args, "-bind", s.expand(from))
	}
	cmd := exec.Command("nsenter", append(args, try)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if !strings.Contains(string(out), "src=") {
		return fmt.Errorf("the answer is %q", out)
	}
	return nil
}

// place is where A stands, and netprobe there: the host, a machine outside, or a
// container with its own files, for its names.
func (s *stage) place(a string) (enter []string, program string) {
	switch host, _, _ := strings.Cut(a, ":"); host {
	case "host":
		return []string{"--net=" + s.d.Host.NS}, s.probe
	case "outside":
		return []string{"--net=" + s.d.Machine.NS}, s.probe
	}
	pid := s.vars["pid_"+a]
	return []string{"--net=/proc/" + pid + "/ns/net", "--mount=/proc/" + pid + "/ns/mnt"}, "/netprobe"
}

// bulk sends much and wants it back: the server echoes.
func (s *stage) bulk(a, addr string, wait time.Duration) error {
	enter, _ := s.place(a)
	var conn net.Conn
	// One address, so one thread: see lab.Host.Dial.
	err := netns.Do(strings.TrimPrefix(enter[0], "--net="), func() (err error) {
		conn, err = net.DialTimeout("tcp", addr, wait)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(3 * wait)); err != nil {
		return err
	}
	// In one piece: many small writes would be many small packets.
	go func() { _, _ = conn.Write(make([]byte, bulkBytes)) }()
	n, err := io.CopyN(io.Discard, conn, bulkBytes)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	return nil
}
