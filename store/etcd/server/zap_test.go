package server

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"linkspan/internal/testlog"
)

// TestWords: of etcd's warnings only those are the daemon's upon which a person must act.
func TestWords(t *testing.T) {
	all := func(log *zap.Logger) {
		for range 3 {
			log.Error("failed to apply request", zap.Error(errors.New("lease not found")))
			log.Warn("Failed to detect schema version", zap.Error(errors.New("missing confstate information")))
			log.Warn("lost TCP streaming connection with remote peer", zap.String("remote-peer-id", "1"), zap.Error(errors.New("EOF")))
			log.Error("rejecting promote learner: learner is not ready")
			log.Warn("rejected connection on client endpoint", zap.Error(errors.New("remote error: tls: bad certificate")))
			log.Warn("rejected connection on peer endpoint", zap.Error(errors.New("remote error: tls: expired certificate")))
			log.Warn("prober found high clock drift", zap.Duration("clock-drift", 2*time.Second))
			log.Error("Detected compaction hash mismatch")
			log.Warn("slow fdatasync")
		}
	}
	for _, tt := range []struct {
		name  string
		level slog.Level
		times int
		want  []string
	}{
		{"a few", slog.LevelInfo, 1, []string{"WARN etcd: rejected connection on peer endpoint", "WARN etcd: prober found high clock drift", "ERROR etcd: Detected compaction hash mismatch"}},
		{"a disk that stays slow", slog.LevelInfo, 5, []string{"WARN etcd: rejected connection on peer endpoint", "WARN etcd: prober found high clock drift", "ERROR etcd: Detected compaction hash mismatch", "WARN etcd: slow fdatasync"}},
		{"all, each once", slog.LevelDebug, 1, []string{"DEBUG etcd: failed to apply request", "DEBUG etcd: Failed to detect schema version", "DEBUG etcd: lost TCP streaming connection with remote peer",
			"DEBUG etcd: rejecting promote learner: learner is not ready", "DEBUG etcd: rejected connection on client endpoint", "WARN etcd: rejected connection on peer endpoint",
			"WARN etcd: prober found high clock drift", "ERROR etcd: Detected compaction hash mismatch", "DEBUG etcd: slow fdatasync"}},
	} {
		var said testlog.Log
		heard := 0
		h := slog.NewTextHandler(&said, &slog.HandlerOptions{Level: tt.level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.LevelKey || a.Key == slog.MessageKey {
				return a
			}
			return slog.Attr{}
		}})
		log := logger(slog.New(h), zapcore.WriteThenPanic, func(string) { heard++ })
		for range tt.times {
			all(log)
		}
		if heard != 27*tt.times {
			t.Errorf("%s: %d lines were heard", tt.name, heard)
		}
		got := strings.NewReplacer("level=", "", "msg=", "", `"`, "").Replace(strings.TrimSpace(said.String()))
		if got != strings.Join(tt.want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, strings.Join(tt.want, "\n"))
		}
	}
}
