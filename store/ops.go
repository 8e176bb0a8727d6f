package store

import (
	"strings"

	"linkspan/cnm"
)

// MaxKey is the longest key, in bytes, that every store takes: bbolt's limit.
const MaxKey = 32768

// CheckOps refuses what no store could write: an empty or too long key, and the
// same key twice in one commit, whose outcome would depend on the store (etcd
// refuses it too: "duplicate key given in txn request").
func CheckOps(ops []Op) error {
	for i := range ops {
		switch n := len(ops[i].Key); {
		case n == 0:
			return cnm.Invalid("store: an operation has an empty key")
		case n > MaxKey:
			return cnm.Invalid("store: the key %.40q… has %d bytes; the limit is %d", ops[i].Key, n, MaxKey)
		case ops[i].Keep && !ops[i].Guard:
			return cnm.Invalid("store: the operation on %q neither writes nor guards", ops[i].Key)
		}
	}
	// Commits are short: comparing pairs is cheaper than a map up to some length.
	if len(ops) <= 8 {
		for i := range ops {
			for j := range i {
				if ops[i].Key == ops[j].Key {
					return twice(ops[i].Key)
				}
			}
		}
		return nil
	}
	seen := make(map[string]struct{}, len(ops))
	for i := range ops {
		if _, ok := seen[ops[i].Key]; ok {
			return twice(ops[i].Key)
		}
		seen[ops[i].Key] = struct{}{}
	}
	return nil
}

func twice(key string) error {
	return cnm.Invalid("store: the key %q is written twice in one commit", key)
}

// HookPoint names the fail point around a commit of ops: "store.KIND.before" or
// "store.KIND.after", where KIND is the first key up to its first slash
// ("store.sandboxes.before"), so that a test can tell the steps of a use case
// apart.
func HookPoint(ops []Op, after bool) string {
	kind := "empty"
	if len(ops) > 0 {
		kind, _, _ = strings.Cut(ops[0].Key, "/")
	}
	if after {
		return "store." + kind + ".after"
	}
	return "store." + kind + ".before"
}
