package image

import (
	"context"
	"io"

	"linkspan/cnm"
)

func (s *Store) Push(ctx context.Context, ref, platform string, auth *Auth, p Progress) error {
	return cnm.Unsupported("not yet: push")
}

func (s *Store) Save(ctx context.Context, refs []string, platform string, w io.Writer) error {
	return cnm.Unsupported("not yet: save")
}

func (s *Store) Distribution(ctx context.Context, ref string, auth *Auth) (*Distribution, error) {
	return nil, cnm.Unsupported("not yet: distribution")
}

func (s *Store) Layered(ctx context.Context, parent *Image, layer io.Reader, config Layered) (string, error) {
	return "", cnm.Unsupported("not yet: commit")
}
