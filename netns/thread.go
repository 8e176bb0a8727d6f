package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do runs fn on a thread inside the namespace pinned at path. fn must not leave
// work behind that depends on the thread: goroutines it starts run elsewhere.
func Do(path string, fn func() error) error {
	f, err := Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return DoFD(int(f.Fd()), fn)
}

// DoFD is Do for an open namespace descriptor.
func DoFD(fd int, fn func() error) error {
	return onThread(func() (err error, tainted bool) {
		own, err := openThread()
		if err != nil {
			return err, false
		}
		defer unix.Close(own)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err), false
		}
		err = fn()
		return err, unix.Setns(own, unix.CLONE_NEWNET) != nil
	})
}

// doFile is DoFD for a file that someone else may close meanwhile: the descriptor
// is held until fn is done, so that its number cannot become another file's.
func doFile(ns *os.File, fn func() error) error {
	raw, err := ns.SyscallConn()
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = DoFD(int(fd), fn) }); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	return done
}

// Current returns a descriptor of the calling thread's namespace. The caller
// closes it.
func Current() (*os.File, error) {
	f, err := os.Open(threadNS)
	if err != nil {
		return nil, fmt.Errorf("own network namespace: %w", err)
	}
	return f, nil
}

func openThread() (int, error) {
	fd, err := unix.Open(threadNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("own network namespace: %w", err)
	}
	return fd, nil
}

// onThread runs fn locked to a thread of its own goroutine, and lets the thread
// die with the goroutine when fn says it is tainted (runtime.LockOSThread: a
// goroutine that exits while locked takes its thread with it). Never the main
// thread: /proc/PID/ns/net shows the main thread's namespace to everyone else, and
// the main thread cannot be thrown away.
//
// A panic in fn leaves the thread locked, so that it dies as well, and goes on in
// the caller.
func onThread(fn func() (err error, tainted bool)) error {
	type result struct {
		err   error
		panic any
	}
	out := make(chan result, 1)
	var run func()
	run = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// While this goroutine holds the main thread, the next cannot get it.
			inner := make(chan struct{})
			go func() { defer close(inner); run() }()
			<-inner
			runtime.UnlockOSThread()
			return
		}
		done := false
		defer func() {
			if !done {
				out <- result{panic: recover()}
			}
		}()
		err, tainted := fn()
		done = true
		if !tainted {
			runtime.UnlockOSThread()
		}
		out <- result{err: err}
	}
	go run()
	r := <-out
	if r.panic != nil {
		panic(r.panic)
	}
	return r.err
}
