package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"linkspan/store/etcd/server"
)

// membersEnv names the folder in which this program plays three etcd members, in a
// process of its own, so that what they cost is told apart from what hosts cost.
const membersEnv = "LINKSPAN_BENCH_MEMBERS"

// runMembers starts the members as a mesh does: one, and two that join it. It ends with
// its standard input.
func runMembers(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var urls []string
	var cluster *server.Cluster
	for i, name := range []string{"a", "b", "c"} {
		c := server.Config{Name: name, Dir: filepath.Join(dir, name), Token: "bench"}
		var err error
		if c.Client, err = freePort(); err == nil {
			c.Peer, err = freePort()
		}
		if err != nil {
			return err
		}
		var id uint64
		if i > 0 {
			if id, c.Cluster, err = cluster.AddLearner(ctx, name, c.PeerURL()); err != nil {
				return err
			}
			c.Existing = true
		}
		s, err := server.Start(ctx, c)
		if err != nil {
			return err
		}
		defer s.Stop()
		urls = append(urls, c.ClientURL())
		if i == 0 {
			if cluster, err = server.NewCluster(server.ClusterConfig{Endpoints: urls}); err != nil {
				return err
			}
			defer cluster.Close()
		} else if err := cluster.Promote(ctx, id); err != nil {
			return err
		}
	}
	fmt.Println(strings.Join(urls, " "))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

func freePort() (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// members are the process that plays them.
type members struct {
	cmd       *exec.Cmd
	stdin     io.Closer
	endpoints []string
}

func startMembers(ctx context.Context, dir string) (*members, error) {
	m := &members{cmd: exec.CommandContext(ctx, "/proc/self/exe")}
	m.cmd.Env = append(os.Environ(), membersEnv+"="+dir, "GOMEMLIMIT=1000MiB")
	m.cmd.Stderr = os.Stderr
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := m.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	m.stdin = in
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "http") {
		m.stop()
		return nil, fmt.Errorf("etcd's members: %s %w", strings.TrimSpace(line), err)
	}
	m.endpoints = strings.Fields(line)
	return m, nil
}

func (m *members) stop() {
	_ = m.stdin.Close()
	late := time.AfterFunc(20*time.Second, func() { _ = m.cmd.Process.Kill() })
	_ = m.cmd.Wait()
	late.Stop()
}

// cost is the processor time that they used, and their memory now.
func (m *members) cost() (cpu time.Duration, rss int64) { return processCost(m.cmd.Process.Pid) }

// processCost reads proc(5): utime and stime in hundredths of a second, rss in pages.
func processCost(pid int) (cpu time.Duration, rss int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 22 {
		return 0, 0
	}
	num := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return n }
	return time.Duration(num(11)+num(12)) * 10 * time.Millisecond, num(21) * int64(os.Getpagesize())
}
