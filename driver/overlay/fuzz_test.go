package overlay_test

import (
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver/drivertest"
	"linkspan/driver/overlay"
)

// FuzzOptions: whatever the value, what Check takes can be planned, with a number and a size
// that the kernel takes.
func FuzzOptions(f *testing.F) {
	keys := []string{keyVNIs, keyPort, keyMTU, keyICC, keyMasq, keyPrefix, "encrypted"}
	for i, v := range []string{"4096", "8472", "1400", "false", "true", "lan", ""} {
		f.Add(i, v)
	}
	f.Fuzz(func(t *testing.T, i int, value string) {
		n := network(true, option(keys[(i%len(keys)+len(keys))%len(keys)], value))
		if (overlay.Driver{}).Check(&n) != nil {
			return
		}
		if vnis, err := (overlay.Driver{}).VNIs(&n); err != nil || len(vnis) != 2 || vnis[0] >= 1<<24 {
			t.Fatalf("numbers %v, %v", vnis, err)
		}
		for _, u := range []*cnm.Underlay{nil, drivertest.Underlay(), drivertest.Underlay(drivertest.Secure)} {
			objs, err := overlay.Driver{}.Network(drivertest.SpanEnv(u), &n)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objs {
				if v, ok := o.(dataplane.VXLAN); ok && (v.MTU < 68 || v.MTU > 1450 || v.VNI == 0 || v.UDPPort() == 0) {
					t.Fatalf("%s: %s", v.Key(), v.Spec())
				}
			}
		}
	})
}
