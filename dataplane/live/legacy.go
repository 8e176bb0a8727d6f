package live

import "linkspan/dataplane/ruleset"

func (k *Kernel) legacy(ns string) ([]*ruleset.Table, error) { return nil, nil }
