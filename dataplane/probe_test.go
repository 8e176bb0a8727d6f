package dataplane_test

import (
	"testing"

	"linkspan/dataplane"
)

func TestProbeOwner(t *testing.T) {
	for name, want := range map[string]int{dataplane.ProbeTable(12, 34): 12, "linkspan_probe_12_34": 12, "linkspan_probe_12": 12, "linkspan": 0,
		"linkspan_probe_": 0, "linkspan_probe_x_1": 0, "linkspan_probe_-1": 0} {
		if pid, ok := dataplane.ProbeOwner(name); ok != (want != 0) || ok && pid != want {
			t.Errorf("%s: %d, %v", name, pid, ok)
		}
	}
}
