package daemontest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// shared is one package's daemon. It is started by the first test that asks for it
// and ended by Main.
type shared struct {
	mu     sync.Mutex
	opts   Options
	owner  *owner
	daemon *Daemon
}

// group is what Main set up for this test binary. There is one Main per binary,
// as there is one TestMain.
var group *shared

// Main runs the tests of a package that share one daemon:
//
//	func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }
func Main(m *testing.M, o Options) {
	group = &shared{opts: o, owner: &owner{}}
	code := m.Run()
	group.owner.finish()
	if group.owner.failed && code == 0 {
		code = 1
	}
	os.Exit(code)
}

// Shared returns the package's daemon for one test. When the test ends,
// containers and volumes that it left are removed, and host and daemon must be as the
// test found them; call it first, so that the test's own cleanups come before. Tests
// that use it do not run in parallel with each other.
func Shared(t testing.TB) *Daemon {
	t.Helper()
	if group == nil {
		t.Fatal("daemontest: Shared needs Main in TestMain")
	}
	g := group
	g.mu.Lock()
	defer g.mu.Unlock()
	g.owner.lend(t)
	t.Cleanup(func() { g.owner.lend(nil) })
	require(t)
	if g.daemon == nil {
		g.daemon = Start(g.owner, g.opts)
	}
	d := g.daemon.For(t)
	if d.PID() == 0 {
		d.Run()
	}
	d.LeakCheck()
	t.Cleanup(d.RemoveAll)
	return d
}

// owner stands for the package as the test to which the shared daemon belongs:
// its cleanups run at the very end, and what it says is said by the test that is
// running. The embedded interface is nil; what is used of it is overridden.
type owner struct {
	testing.TB
	mu       sync.Mutex
	now      testing.TB
	cleanups []func()
	failed   bool
}

func (o *owner) lend(t testing.TB) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = t
}

func (o *owner) test() testing.TB {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now
}

func (o *owner) finish() {
	slices.Reverse(o.cleanups)
	for _, f := range o.cleanups {
		f()
	}
}

func (o *owner) Cleanup(f func()) { o.cleanups = append(o.cleanups, f) }
func (o *owner) Helper()          {}
func (o *owner) Name() string     { return "shared daemon" }
func (o *owner) Failed() bool     { return o.failed }

func (o *owner) Log(args ...any) {
	if t := o.test(); t != nil {
		t.Log(args...)
		return
	}
	fmt.Fprintln(os.Stderr, append([]any{"shared daemon:"}, args...)...)
}

func (o *owner) Error(args ...any) {
	o.failed = true
	if t := o.test(); t != nil {
		t.Error(args...)
		return
	}
	fmt.Fprintln(os.Stderr, append([]any{"FAIL: shared daemon:"}, args...)...)
}

func (o *owner) Fatal(args ...any) {
	o.failed = true
	if t := o.test(); t != nil {
		t.Fatal(args...)
	}
	o.Error(args...)
	runtime.Goexit()
}

func (o *owner) Skipf(format string, args ...any) {
	if now := o.test(); now != nil {
		now.Skipf(format, args...)
	}
	runtime.Goexit()
}

func (o *owner) Logf(format string, args ...any)   { o.Log(fmt.Sprintf(format, args...)) }
func (o *owner) Errorf(format string, args ...any) { o.Error(fmt.Sprintf(format, args...)) }
func (o *owner) Fatalf(format string, args ...any) { o.Fatal(fmt.Sprintf(format, args...)) }
