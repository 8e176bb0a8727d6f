package driver

import (
	"strings"
	"testing"
)

func TestCheckLinkName(t *testing.T) {
	for _, ok := range []string{"eth0", "lan", "a", "abcdefghijklmno", "br.5", "käse"} {
		if err := CheckLinkName(ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", "a:b", "a b", "a\tb", "eth%d", "abcdefghijklmnop"} {
		if err := CheckLinkName(bad); err == nil || !strings.Contains(err.Error(), "no device name") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
