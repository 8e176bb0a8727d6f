package server

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// quiet is how long a line that was told is not told again: etcd says every few seconds
// that a member cannot be reached.
const quiet = time.Minute

// noise are warnings of etcd that mean nothing to who runs a mesh.
var noise = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	// The socket for health and metrics in the member's own folder.
	"scheme is http or unix while key and cert files are present; ignoring key and cert files":           true,
	"scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL": true,
	"simple token is not cryptographically signed":                                                       true, // users of etcd: we have none
	"failed to publish local member to cluster through raft":                                             true, // tried again until there is a leader
}

// core hands etcd's lines to slog: warnings and worse, each at most once a minute.
type core struct {
	log  *slog.Logger
	hear func(line string)
	with []zapcore.Field
	told *told
}

type told struct {
	mu   sync.Mutex
	when map[string]time.Time
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
	return &core{log: log, hear: hear, told: &told{when: map[string]time.Time{}}}
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
	if noise[e.Message] {
		return nil
	}
	attrs := make([]slog.Attr, 0, len(c.with)+len(fields))
	line := e.Message
	for _, f := range append(c.with[:len(c.with):len(c.with)], fields...) {
		a := attr(f)
		if v := a.Value.String(); strings.HasSuffix(v, "use of closed network connection") || v == "http: Server closed" {
			return nil // the end of a server that was stopped
		}
		if f.Key == "remote-peer-id" || f.Key == "peer-id" || f.Key == "error" {
			line += " " + a.Value.String()
		}
		attrs = append(attrs, a)
	}
	if c.told.again(line, e.Time) {
		return nil
	}
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	c.log.LogAttrs(context.Background(), level, "etcd: "+e.Message, attrs...)
	return nil
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

// logger is etcd's; hear is told every line from warnings on. What etcd calls fatal ends the process, or panics: neither is for a
// guest to decide, so end is called with what it said and must not return.
func logger(log *slog.Logger, end zapcore.CheckWriteHook, hear func(line string)) *zap.Logger {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return zap.New(newCore(log, hear), zap.WithFatalHook(end), zap.WithPanicHook(end), zap.ErrorOutput(discard{}))
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Sync() error                 { return nil }
