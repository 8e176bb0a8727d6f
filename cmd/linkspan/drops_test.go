package main

import (
	"testing"
	"time"
)

func TestMoment(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	defer func(l *time.Location) { time.Local = l }(time.Local)
	time.Local = time.UTC
	for text, want := range map[string]time.Time{
		"": {}, "10m": now.Add(-10 * time.Minute), "-10m": now.Add(-10 * time.Minute), "1h30m": now.Add(-90 * time.Minute),
		"2026-11-21T11:00:00Z": now.Add(-time.Hour), "2026-11-21T12:00:00.5+01:00": now.Add(-time.Hour + 500*time.Millisecond),
		"2026-11-21T11:30": now.Add(-30 * time.Minute), "2026-11-21": now.Add(-12 * time.Hour),
	} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "10", "12:00"} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
