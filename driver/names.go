package driver

import (
	"sort"
	"strings"
)

func (r Registry) names() string {
	var ns []string
	for n := range r {
		ns = append(ns, n)
	}
	sort.Strings(ns)
	return strings.Join(ns, ", ")
}
