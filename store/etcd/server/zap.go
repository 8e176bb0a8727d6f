package server

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// quiet is how long a line that was told is not told again: etcd says every few seconds
// that a member cannot be reached.
const quiet = time.Minute

// acted are the beginnings of those lines of etcd upon which a person must act. All the
// rest is for who looks into etcd itself (debug): members that come and go, elections,
// requests that clients gave up, leases that are no more. That a member does not run,
// has no room or no majority, the daemon says in its own words, with what to do.
var acted = []string{
	"prober found high clock drift",    // the clocks of two members are apart
	"80% of file descriptors are used", // the daemon's limit
	"found hash mismatch",              // a member has other data than the rest
	"Detected compaction hash mismatch",
	"snap file is corrupt",
}

// slow are lines about a disk or a host that is too slow for etcd. Once is nothing: many
// within a minute are.
var slow = []string{
	"slow fdatasync",
	"leader failed to send out heartbeat on time",
}

const often = 10

// expired says whether a line is about a host that was off until its certificate ended, or
// whose clock is wrong. Of others that are refused, strangers and hosts that the mesh has
// forgotten, nobody has to know.
func expired(line string) bool {
	return strings.Contains(line, "expired certificate") || strings.Contains(line, "certificate has expired")
}

func begins(line string, with []string) bool {
	return slices.ContainsFunc(with, func(w string) bool { return strings.HasPrefix(line, w) })
}

// core hands etcd's lines to slog: what are warnings to it, and worse, each at most once a
// minute.
type core struct {
	log  *slog.Logger
	hear func(line string)
	with []zapcore.Field
	told *told
}

type told struct {
	mu    sync.Mutex
	when  map[string]time.Time
	count map[string]int // of slow lines since begun
	begun time.Time
}

// often says, once in a minute, that a slow line has come often in it.
func (t *told) often(line string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.begun) > quiet {
		clear(t.count)
		t.begun = now
	}
	t.count[line]++
	return t.count[line] == often
}

// again says whether the line was told less than a minute ago, and notes it.
func (t *told) again(line string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.when[line]; ok && now.Sub(last) < quiet {
		return true
	}
	if len(t.when) > 1000 { // lines with numbers in them
		clear(t.when)
	}
	t.when[line] = now
	return false
}

func newCore(log *slog.Logger, hear func(line string)) zapcore.Core {
	return &core{log: log, hear: hear, told: &told{when: map[string]time.Time{}, count: map[string]int{}}}
}

func (c *core) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{log: c.log, hear: c.hear, with: append(c.with[:len(c.with):len(c.with)], fields...), told: c.told}
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.hear(e.Message)
	attrs := make([]slog.Attr, 0, len(c.with)+len(fields))
	line := e.Message
	for _, f := range append(c.with[:len(c.with):len(c.with)], fields...) {
		a := attr(f)
		if f.Key == "remote-peer-id" || f.Key == "peer-id" || f.Key == "error" {
			line += " " + a.Value.String()
		}
		attrs = append(attrs, a)
	}
	level := c.level(e, line)
	if !c.log.Enabled(context.Background(), level) || c.told.again(level.String()+line, e.Time) {
		return nil
	}
	c.log.LogAttrs(context.Background(), level, "etcd: "+e.Message, attrs...)
	return nil
}

func (c *core) level(e zapcore.Entry, line string) slog.Level {
	switch {
	case begins(e.Message, slow) && c.told.often(e.Message, e.Time), expired(line):
		return slog.LevelWarn
	case !begins(e.Message, acted):
		return slog.LevelDebug
	case e.Level > zapcore.WarnLevel:
		return slog.LevelError
	}
	return slog.LevelWarn
}

func (c *core) Sync() error { return nil }

// attr is a field of zap as slog has it.
func attr(f zapcore.Field) slog.Attr {
	m := zapcore.NewMapObjectEncoder()
	f.AddTo(m)
	return slog.Any(f.Key, m.Fields[f.Key])
}

// gone is what etcd says when the others told it that it is not one of them any more.
const gone = "data-dir used by this member must be removed"

// logger is etcd's; hear is told every line from warnings on. What etcd calls fatal ends
// the process, or panics: neither is for a guest to decide, so end is called with what it
// said and must not return.
func logger(log *slog.Logger, end zapcore.CheckWriteHook, hear func(line string)) *zap.Logger {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return zap.New(newCore(log, hear), zap.WithFatalHook(end), zap.WithPanicHook(end), zap.ErrorOutput(discard{}))
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Sync() error                 { return nil }
