package daemon

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"

	"linkspan/cnm"
)

// names is containerd's list of namespaces in memory.
type names struct {
	namespaces.Store
	has map[string]map[string]string
}

func (n names) Create(_ context.Context, name string, labels map[string]string) error {
	if n.has[name] != nil {
		return errdefs.ErrAlreadyExists
	}
	n.has[name] = maps.Clone(labels)
	return nil
}

func (n names) Labels(_ context.Context, name string) (map[string]string, error) {
	if n.has[name] == nil {
		return nil, errdefs.ErrNotFound
	}
	return n.has[name], nil
}

func (n names) SetLabel(_ context.Context, name, k, v string) error {
	n.has[name][k] = v
	return nil
}

// Two daemons on one containerd never share a namespace, and each finds its own
// again.
func TestClaimContainerdNamespace(t *testing.T) {
	n := names{has: map[string]map[string]string{"old": {}}}
	claim := func(name, instance string) (string, error) {
		t.Helper()
		return claimContainerdNamespace(t.Context(), n, name, instance)
	}
	for _, c := range []struct{ name, instance, want string }{
		{"linkspan", "aaaaaa", "linkspan"},
		{"linkspan", "aaaaaa", "linkspan"},
		{"linkspan", "bbbbbb", "linkspan-bbbbbb"},
		{"linkspan", "bbbbbb", "linkspan-bbbbbb"},
		{"mine", "cccccc", "mine"},
		{"mine", "cccccc", "mine"},
		{"old", "dddddd", "old"}, // made by a person, or an earlier version
	} {
		if got, err := claim(c.name, c.instance); err != nil || got != c.want {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
	for _, name := range []string{"mine", "old"} {
		if _, err := claim(name, "eeeeee"); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "--containerd-namespace") {
			t.Errorf("another's %s: %v", name, err)
		}
	}
	// The first is gone with all it had: who gave way stays where its containers are.
	delete(n.has, "linkspan")
	if got, err := claim("linkspan", "bbbbbb"); err != nil || got != "linkspan-bbbbbb" {
		t.Errorf("%s, %v", got, err)
	}
}
