package keeper

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestLogGolden holds the exact bytes that dockerd's json-file driver writes
// for the same output.
func TestLogGolden(t *testing.T) {
	const ts = "2024-05-06T07:08:09.123456789Z"
	out := splitter{source: "stdout"}
	err := splitter{source: "stderr"}
	var got []byte
	got = out.add(got, []byte("hello\n"), []byte(ts))
	got = out.add(got, []byte("\n"), []byte(ts))
	got = out.add(got, []byte("two "), []byte(ts))
	got = err.add(got, []byte("from stderr\n"), []byte(ts))
	got = out.add(got, []byte("reads\nthree lines\nin one read\n"), []byte(ts))
	got = out.add(got, []byte("tab\there \"quoted\" back\\slash <a href=x>&amp;</a> bell\a del\x7f\r\n"), []byte(ts))
	got = out.add(got, []byte("für \xff\xfe \u2028 \u2029 日本 \U0001f600\n"), []byte(ts))
	got = out.add(got, []byte("\x1b[31mred\x1b[0m\x00\n"), []byte(ts))
	got = out.add(got, []byte("no newline at the end"), []byte(ts))
	got = out.flush(got, []byte(ts))
	want, rerr := os.ReadFile("testdata/docker.log")
	if rerr != nil {
		t.Fatal(rerr)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	for _, line := range bytes.Split(bytes.TrimSpace(got), []byte("\n")) {
		if !json.Valid(line) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

func entries(t *testing.T, raw []byte) (logs []string, times []string) {
	t.Helper()
	for line := range bytes.Lines(raw) {
		var e struct{ Log, Time string }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		logs, times = append(logs, e.Log), append(times, e.Time)
	}
	return logs, times
}

func TestLongLinesArePartial(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		{"just fits", x(maxLine-1) + "\n", []string{x(maxLine-1) + "\n"}},
		{"fills the buffer", x(maxLine) + "\n", []string{x(maxLine), "\n"}},
		{"two and a half", x(2*maxLine+100) + "\nnext\n", []string{x(maxLine), x(maxLine), x(100) + "\n", "next\n"}},
		{"ends without newline", x(maxLine + 1), []string{x(maxLine), "x"}},
		{"a rune is not cut", x(maxLine-1) + "é\n", []string{x(maxLine - 1), "é\n"}},
		{"four bytes", x(maxLine-3) + "\U0001f600\n", []string{x(maxLine - 3), "\U0001f600\n"}},
		{"a whole rune at the end stays", x(maxLine-2) + "é" + "z\n", []string{x(maxLine-2) + "é", "z\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{1 << 20, 4096, 777} {
				s := splitter{source: "stdout"}
				var got []byte
				for rest, tick := c.in, 0; rest != ""; tick++ {
					n := min(step, len(rest))
					got = s.add(got, []byte(rest[:n]), []byte{'a' + byte(tick%26)})
					rest = rest[n:]
				}
				logs, times := entries(t, s.flush(got, []byte("z")))
				if len(logs) != len(c.want) {
					t.Fatalf("step %d: %d entries, want %d", step, len(logs), len(c.want))
				}
				for i := range logs {
					if logs[i] != c.want[i] {
						t.Errorf("step %d entry %d: %d bytes, want %d", step, i, len(logs[i]), len(c.want[i]))
					}
				}
				if len(logs) > 1 && !strings.HasSuffix(logs[0], "\n") && times[0] != times[1] {
					t.Errorf("step %d: parts of one line carry %q and %q", step, times[0], times[1])
				}
			}
		})
	}
}

// FuzzSplitter: whatever is printed in whatever pieces, the entries put
// together are what was printed (invalid UTF-8 aside), and none is too long.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("a\nb\n\nc"), uint16(1), false)
	f.Add([]byte("é\x00\xff\n"), uint16(40000), true)
	f.Fuzz(func(t *testing.T, in []byte, step uint16, long bool) {
		if long {
			in = bytes.Repeat(append(in, 'x'), 1+maxLine/(len(in)+1))
		}
		s := splitter{source: "stderr"}
		var raw []byte
		for rest := in; len(rest) > 0; {
			n := min(int(step)+1, len(rest))
			raw = s.add(raw, rest[:n], []byte("t"))
			rest = rest[n:]
		}
		var got strings.Builder
		for line := range bytes.Lines(s.flush(raw, []byte("t"))) {
			e, ok := decodeEntry(line)
			if !ok || e.Stream != "stderr" {
				t.Fatalf("bad entry %q", line)
			}
			if utf8.Valid(in) && len(e.Log) > maxLine {
				t.Fatalf("entry of %d bytes", len(e.Log))
			}
			got.WriteString(e.Log)
		}
		if utf8.Valid(in) && got.String() != string(in) {
			t.Fatalf("got %q, want %q", got.String(), in)
		}
	})
}

func TestOpenLogMendsTornEnd(t *testing.T) {
	line := `{"log":"x\n","stream":"stdout","time":"t"}` + "\n"
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"whole", line + line, line + line},
		{"half a line", line + line[:10], line},
		{"only half a line", line[:10], ""},
		{"zeros", line + strings.Repeat("\x00", 9000), line},
		{"a long torn line", line + strings.Repeat("y", 100_000), line},
		{"newline at a block's edge", strings.Repeat("z", 4095) + "\n" + strings.Repeat("y", 4096), strings.Repeat("z", 4095) + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, []byte(c.in), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := openLog(path, LogOptions{}, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.write([]byte(line)); err != nil {
				t.Fatal(err)
			}
			l.close()
			got, _ := os.ReadFile(path)
			if string(got) != c.want+line {
				t.Errorf("got %d bytes, want %d", len(got), len(c.want+line))
			}
		})
	}
	if _, err := openLog(t.TempDir(), LogOptions{}, slog.New(slog.DiscardHandler), nil); err == nil {
		t.Error("a folder was opened as a log")
	}
}

func BenchmarkSplitter(b *testing.B) {
	chunk := make([]byte, 0, 64<<10)
	for len(chunk) < 64<<10-100 {
		n := 20 + rand.IntN(80)
		chunk = append(append(chunk, bytes.Repeat([]byte("m"), n)...), '\n')
	}
	s := splitter{source: "stdout"}
	var dst []byte
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		dst = s.add(dst[:0], chunk, []byte("2024-05-06T07:08:09.123456789Z"))
	}
}
