package daemon

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync"
	"syscall"

	"linkspan/keeper"
)

// failPoint is the crash tests' way in: with LINKSPAN_FAIL_AT=REGEXP the process
// kills itself at the first point whose beginning matches (with LINKSPAN_FAIL_NTH=N
// at the Nth) after the file LINKSPAN_FAIL_ARMED exists, and with
// LINKSPAN_FAIL_LOG=FILE it writes down the points it passes. In production none is
// set and no point costs anything.
func failPoint() (func(point string), error) {
	at, armed, path := os.Getenv("LINKSPAN_FAIL_AT"), os.Getenv("LINKSPAN_FAIL_ARMED"), os.Getenv("LINKSPAN_FAIL_LOG")
	if at == "" && path == "" {
		return nil, nil
	}
	match, err := regexp.Compile("^(?:" + at + ")")
	if err != nil {
		return nil, fmt.Errorf("LINKSPAN_FAIL_AT: %w", err)
	}
	nth := 1
	if n := os.Getenv("LINKSPAN_FAIL_NTH"); n != "" {
		if nth, err = strconv.Atoi(n); err != nil {
			return nil, fmt.Errorf("LINKSPAN_FAIL_NTH: %w", err)
		}
	}
	var mu sync.Mutex
	return func(point string) {
		mu.Lock()
		defer mu.Unlock()
		if armed != "" {
			if _, err := os.Stat(armed); err != nil {
				return
			}
		}
		if path != "" {
			if f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
				fmt.Fprintln(f, point)
				f.Close()
			}
		}
		if at == "" || !match.MatchString(point) {
			return
		}
		if nth--; nth == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal takes effect before anything else happens here
		}
	}, nil
}

// ports is the keeper with fail points around what it holds.
type ports struct {
	keeper.Keeper
	hook func(point string)
}

func (p ports) Reserve(ctx context.Context, reqs []keeper.PortRequest) error {
	p.hook("keeper.reserve.before")
	err := p.Keeper.Reserve(ctx, reqs)
	p.hook("keeper.reserve.after")
	return err
}

func (p ports) Release(ctx context.Context, owner string) error {
	p.hook("keeper.release.before")
	err := p.Keeper.Release(ctx, owner)
	p.hook("keeper.release.after")
	return err
}

// hooked puts fail points around the keeper when there are any.
func hooked(k keeper.Keeper, hook func(point string)) keeper.Keeper {
	if hook == nil {
		return k
	}
	return ports{k, hook}
}
