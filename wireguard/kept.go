package wireguard

import (
	"context"

	"linkspan/cnm"
)

// Keeper is what the keeper does for a device in user space.
type Keeper interface {
	SetTunnel(ctx context.Context, c Config) error
	RemoveTunnel(ctx context.Context, name string) error
	Tunnels(ctx context.Context) ([]Status, error)
}

// InKeeper is the devices in user space, which live in the keeper.
func InKeeper(k Keeper) Device { return kept{k} }

type kept struct{ k Keeper }

func (d kept) Set(ctx context.Context, c Config) error { return d.k.SetTunnel(ctx, c) }

func (d kept) Status(ctx context.Context, name string) (Status, error) {
	all, err := d.k.Tunnels(ctx)
	if err != nil {
		return Status{}, err
	}
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	return Status{}, cnm.NotFound("the keeper has no tunnel %s", name)
}

func (d kept) Remove(ctx context.Context, name string) error { return d.k.RemoveTunnel(ctx, name) }
