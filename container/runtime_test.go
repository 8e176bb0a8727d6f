package container

import (
	"errors"
	"strings"
	"testing"

	"linkspan/cnm"
)

func TestDefaultRuntime(t *testing.T) {
	e := &Engine{cfg: Config{Runtimes: map[string]string{"slow": "/opt/slow"}}}
	for name, want := range map[string]string{"": "runc", "runc": "runc", "slow": "slow"} {
		if err := e.SetDefaultRuntime(name); err != nil {
			t.Fatalf("SetDefaultRuntime(%q): %v", name, err)
		}
		if got := *e.defaultRuntime.Load(); got != want {
			t.Errorf("default runtime after %q is %q, want %q", name, got, want)
		}
	}
	if err := e.SetDefaultRuntime("slow"); err != nil {
		t.Fatal(err)
	}
	err := e.SetDefaultRuntime("nope")
	if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "nope") || !strings.Contains(err.Error(), "--add-runtime nope=PATH") {
		t.Errorf("an unknown default: %v; want cnm.ErrInvalid with name and cure", err)
	}
	if got := *e.defaultRuntime.Load(); got != "slow" {
		t.Errorf("a refused default changed it to %q", got)
	}
}
