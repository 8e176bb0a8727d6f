package live

import (
	"context"
	"errors"

	"linkspan/dataplane/ruleset"
)

// Ruleset reads all tables.
func (k *Kernel) Ruleset(ctx context.Context, ns string) (*ruleset.Ruleset, error) {
	return nil, errors.New("not yet")
}
