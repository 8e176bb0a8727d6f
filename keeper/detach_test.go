package keeper

import (
	"bytes"
	"testing"
)

func TestDetacher(t *testing.T) {
	const p, q = "\x10", "\x11"
	for _, c := range []struct {
		name, keys string
		typed      []string
		out        string
		detached   bool
	}{
		{"no keys", "", []string{p + q}, p + q, false},
		{"plain text", p + q, []string{"ls\n"}, "ls\n", false},
		{"in one read", p + q, []string{p + q}, "", true},
		{"in two reads", p + q, []string{p, q}, "", true},
		{"text before", p + q, []string{"a" + p, q + "b"}, "a", true},
		{"held, then let go", p + q, []string{p, "x"}, p + "x", false},
		{"still held", p + q, []string{"x" + p}, "x", false},
		{"ctrl-p twice, then the keys", p + q, []string{p + p + q}, p, true},
		{"single key", "\x1d", []string{"ab\x1dc"}, "ab", true},
		{"overlapping keys", "aab", []string{"a", "a", "a", "b"}, "a", true},
		{"overlap across a mismatch", "abab\x01", []string{"ababab\x01"}, "ab", true},
		{"split byte by byte without match", "aab", []string{"a", "a", "c"}, "aac", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := detacher{keys: []byte(c.keys)}
			var out []byte
			detached := false
			for _, s := range c.typed {
				if out, detached = d.feed(out, []byte(s)); detached {
					break
				}
			}
			if string(out) != c.out || detached != c.detached {
				t.Errorf("got %q %v, want %q %v", out, detached, c.out, c.detached)
			}
		})
	}
}

// FuzzDetacher compares with the plain definition: the first occurrence of the
// keys ends the stream, everything before it is passed on, in order, and no
// more is held back than a beginning of the keys.
func FuzzDetacher(f *testing.F) {
	f.Add([]byte("\x10\x11"), []byte("abc\x10\x11"), uint8(1))
	f.Add([]byte("aab"), []byte("aaaabaab"), uint8(3))
	f.Add([]byte("abababc"), []byte("ababababc"), uint8(2))
	f.Fuzz(func(t *testing.T, keys, typed []byte, step uint8) {
		if len(keys) > 64 {
			return
		}
		d := detacher{keys: keys}
		var out []byte
		detached := false
		for rest := typed; len(rest) > 0 && !detached; {
			n := min(int(step)%7+1, len(rest))
			out, detached = d.feed(out, rest[:n])
			rest = rest[n:]
		}
		at := -1
		if len(keys) > 0 {
			at = bytes.Index(typed, keys)
		}
		switch {
		case detached != (at >= 0):
			t.Fatalf("detached %v, keys at %d", detached, at)
		case detached && !bytes.Equal(out, typed[:at]):
			t.Fatalf("passed %q, want %q", out, typed[:at])
		case !detached && !bytes.Equal(append(out, keys[:d.held]...), typed):
			t.Fatalf("passed %q and held %q of %q", out, keys[:d.held], typed)
		}
	})
}
