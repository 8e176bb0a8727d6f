package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"

	"linkspan/cnm"
	"linkspan/config"
)

// ownerLabel on a containerd namespace says which daemon's it is. Everything in
// the namespace that no record declares is swept as left over, so that two daemons
// on one containerd must never share one.
const ownerLabel = "linkspan.instance"

// claimContainerdNamespace finds the containerd namespace of this daemon and
// marks it. The default name is the first daemon's; another one that uses the
// same containerd takes the name with its instance behind it. A name that was
// asked for is refused where it is another's.
func claimContainerdNamespace(ctx context.Context, s namespaces.Store, name, instance string) (string, error) {
	if name != config.Default("linkspan").ContainerdNamespace {
		return name, mark(ctx, s, name, instance)
	}
	own := name + "-" + instance
	// A daemon that once had to give way stays where its containers are.
	labels, err := s.Labels(ctx, own)
	switch {
	case err == nil && labels[ownerLabel] == instance:
		return own, nil
	case err != nil && !errdefs.IsNotFound(err):
		return "", wrapped(own, err)
	}
	if err = mark(ctx, s, name, instance); errors.Is(err, cnm.ErrConflict) {
		return own, mark(ctx, s, own, instance)
	}
	return name, err
}

func mark(ctx context.Context, s namespaces.Store, name, instance string) error {
	ctx = namespaces.WithNamespace(ctx, name) // for the event that containerd makes of it
	err := s.Create(ctx, name, map[string]string{ownerLabel: instance})
	if err == nil || !errdefs.IsAlreadyExists(err) {
		return wrapped(name, err)
	}
	labels, err := s.Labels(ctx, name)
	switch holder := labels[ownerLabel]; {
	case err != nil:
		return wrapped(name, err)
	case holder == instance:
		return nil
	case holder != "":
		return cnm.Conflict("the containerd namespace %s belongs to another Linkspan daemon (instance %s): choose one with --containerd-namespace, or leave the flag away", name, holder)
	}
	return wrapped(name, s.SetLabel(ctx, name, ownerLabel, instance))
}

func wrapped(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("containerd namespace %s: %w", name, err)
}
