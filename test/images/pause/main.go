// Command pause is the process of a container that exists to hold a network
// stack which others join: it sleeps until it is told to stop, and reaps what
// is re-parented to it.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// pid 1 of a pid namespace gets no default actions: without a handler,
	// `docker stop` would wait its ten seconds and kill.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s == syscall.SIGCHLD {
			reap()
			continue
		}
		os.Exit(0)
	}
}

// reap collects every child that has ended. Several SIGCHLD can arrive as one.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			return
		}
	}
}
