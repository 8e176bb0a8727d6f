package daemon

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
)

// failPoint is the crash tests' way in: with LINKSPAN_FAIL_AT=NAME the process
// kills itself at the first point of that name after the file
// LINKSPAN_FAIL_ARMED exists, and with LINKSPAN_FAIL_LOG=FILE it writes down the
// points it passes. In production neither is set and no point costs anything.
func failPoint() func(point string) {
	at, armed, path := os.Getenv("LINKSPAN_FAIL_AT"), os.Getenv("LINKSPAN_FAIL_ARMED"), os.Getenv("LINKSPAN_FAIL_LOG")
	if at == "" && path == "" {
		return nil
	}
	var mu sync.Mutex
	return func(point string) {
		if armed != "" {
			if _, err := os.Stat(armed); err != nil {
				return
			}
		}
		if path != "" {
			mu.Lock()
			if f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
				fmt.Fprintln(f, point)
				f.Close()
			}
			mu.Unlock()
		}
		if at != "" && strings.HasPrefix(point, at) {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal takes effect before anything else happens here
		}
	}
}
