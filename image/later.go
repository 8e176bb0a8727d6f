package image

import (
	"context"

	"linkspan/cnm"
)

func (s *Store) Push(ctx context.Context, ref, platform string, auth *Auth, p Progress) error {
	return cnm.Unsupported("not yet: push")
}

func (s *Store) Distribution(ctx context.Context, ref string, auth *Auth) (*Distribution, error) {
	return nil, cnm.Unsupported("not yet: distribution")
}
