package netns

import "testing"

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		dir, point string
		want       bool
	}{
		{"/run/x", "/", true}, {"/run/x", "/run", true}, {"/run/x", "/run/x", true},
		{"/run/xy", "/run/x", false}, {"/run", "/run/x", false},
	} {
		if got := within(c.dir, c.point); got != c.want {
			t.Errorf("%s within %s: %v", c.dir, c.point, got)
		}
	}
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("unescaped %q", got)
	}
}
