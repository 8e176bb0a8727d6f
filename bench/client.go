package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/netns"
)

// within runs fn on a thread in a namespace; unlike netns.Do it takes
// /proc/PID/ns/net as well.
func within(ns string, fn func() error) error {
	f, err := os.Open(ns)
	if err != nil {
		return err
	}
	defer f.Close()
	return netns.DoFD(int(f.Fd()), fn)
}

// wire is a TCP connection by blocking system calls: they stay on the thread that
// is in the namespace, and no scheduler is in the number that is measured.
type wire int

// patience bounds each system call.
var patience = unix.Timeval{Sec: 3}

func dial(to netip.AddrPort) (wire, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		// Closing resets: a load must not use up the ports with TIME_WAIT.
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	for err == nil {
		if err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != unix.EINTR {
			break
		}
		err = nil
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect to %s: %w", to, err)
	}
	return wire(fd), nil
}

func (w wire) close() { unix.Close(int(w)) }

// line reads up to a newline.
func (w wire) line(buf []byte) error {
	for {
		n, err := unix.Read(int(w), buf)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return errors.New("the server closed")
		case bytes.IndexByte(buf[:n], '\n') >= 0:
			return nil
		}
	}
}

func (w wire) write(b []byte) error {
	for {
		_, err := unix.Write(int(w), b)
		if err != unix.EINTR {
			return err
		}
	}
}

// oneCPU runs fn with this thread, and the server of that process, on one CPU: where the
// scheduler puts the two of them makes a round trip two times as long, and is the luck of
// the moment.
func oneCPU(server int, fn func() error) (err error) {
	var first, had unix.CPUSet
	if err := unix.SchedGetaffinity(0, &had); err != nil {
		return err
	}
	cpu := 0
	for !had.IsSet(cpu) { // it runs on one
		cpu++
	}
	first.Set(cpu)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", server))
	if err != nil {
		return err
	}
	tids := []int{0} // sched_setaffinity(2): this thread
	for _, t := range tasks {
		if tid, err := strconv.Atoi(filepath.Base(t)); err == nil {
			tids = append(tids, tid)
		}
	}
	put := func(set *unix.CPUSet) error {
		for _, tid := range tids {
			if err := unix.SchedSetaffinity(tid, set); err != nil && err != unix.ESRCH {
				return err
			}
		}
		return nil
	}
	defer func() { err = errors.Join(err, put(&had)) }()
	if err := put(&first); err != nil {
		return err
	}
	return fn()
}

// echoes sends lines and waits for each one's echo; the median in µs.
func echoes(ctx context.Context, to netip.AddrPort, load time.Duration) (float64, error) {
	w, err := dial(to)
	if err != nil {
		return 0, err
	}
	defer w.close()
	buf := make([]byte, 4096)
	if err := w.line(buf); err != nil { // the greeting
		return 0, err
	}
	var took []float64
	for end := time.Now().Add(load); time.Now().Before(end) && ctx.Err() == nil; {
		start := time.Now()
		if err := w.write([]byte("ping\n")); err != nil {
			return 0, err
		}
		if err := w.line(buf); err != nil {
			return 0, err
		}
		took = append(took, us(time.Since(start)))
	}
	return median(took), ctx.Err()
}

// workers make connections at once.
const workers = 4

// greetings makes connections, reads each one's greeting and closes it; how many
// per second.
func greetings(ctx context.Context, ns string, to netip.AddrPort, load time.Duration) (float64, error) {
	var done atomic.Int64
	var all sync.WaitGroup
	failed := make([]error, workers)
	start := time.Now()
	for i := range workers {
		all.Go(func() {
			failed[i] = within(ns, func() error {
				buf := make([]byte, 4096)
				for time.Since(start) < load && ctx.Err() == nil {
					w, err := dial(to)
					if err != nil {
						return err
					}
					err = w.line(buf)
					w.close()
					if err != nil {
						return err
					}
					done.Add(1)
				}
				return nil
			})
		})
	}
	all.Wait()
	took := time.Since(start)
	return float64(done.Load()) / took.Seconds(), errors.Join(append(failed, ctx.Err())...)
}
