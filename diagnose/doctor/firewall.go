package doctor

import (
	"context"
)

// firewalls: tables of others that may drop what Linkspan lets through. A later base
// chain of the same hook has its own say: accept ends one table's, not all.
func (w *ward) firewalls(ctx context.Context) {
}
