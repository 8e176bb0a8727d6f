package probe_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"linkspan/probe"
)

// fake records a skip instead of skipping.
type fake struct{ msg string }

func (f *fake) Helper()                       {}
func (f *fake) Skipf(format string, a ...any) { f.msg = fmt.Sprintf(format, a...) }

func TestAllHaveCure(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range probe.All() {
		f := r.Feature
		if f.Name == "" || f.For == "" || f.Cure == "" || seen[f.Name] {
			t.Errorf("incomplete or doubled: %+v", f)
		}
		seen[f.Name] = true
		var m *probe.Missing
		if r.Err != nil && (!errors.As(r.Err, &m) || !strings.Contains(r.Err.Error(), f.Cure)) {
			t.Errorf("%s: error without cure: %v", f.Name, r.Err)
		}
		t.Logf("%-24s %v", f.Name, r.Err)
	}
}

// TestRequirePrints: a missing feature skips, with the reason, what needs it and
// the cure.
func TestRequirePrints(t *testing.T) {
	t.Setenv("PATH", "/nowhere")
	f := &fake{}
	probe.Require(f, probe.NFTProgram)
	for _, want := range []string{"the nft program", "no nft in PATH", "firewall page", "apt install nftables"} {
		if !strings.Contains(f.msg, want) {
			t.Errorf("%q is not in %q", want, f.msg)
		}
	}
}

// TestAsRoot: with root and namespaces, the basic features give an answer that is
// not a permission problem, and the test's own namespace has no trace.
func TestAsRoot(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS)
	for _, f := range []probe.Feature{probe.Veth, probe.Bridge, probe.NFT, probe.Conntrack, probe.NFLog} {
		if err := f.Check(); errors.Is(err, os.ErrPermission) {
			t.Errorf("%v", err)
		}
	}
	if _, err := os.Stat("/sys/class/net/lsprobe"); err == nil {
		t.Error("probing left a link behind")
	}
}
