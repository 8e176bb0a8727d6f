package bridge_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/bridge"
)

// FuzzOptions: whatever the value, what Check takes can be planned, and no plan
// leads out of the container's own interface or of the page.
func FuzzOptions(f *testing.F) {
	keys := []string{"com.docker.network.bridge.name", keyICC, keyMasq, keyInhibit, keyMode4, keyMode6, keyTrusted, keyBinding, keyMTU, keyPrefix,
		keyHost4, keyHost6, keyAdvertise, keyEvery, keyIfName, keySysctls}
	for i, v := range []string{"br0", "false", "1", "true", "routed", "isolated", "eth0:wg0", "10.0.0.1", "1400", "lan", "192.0.2.1", "2001:db8::1", "2", "500", "wan.7",
		"net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=2"} {
		f.Add(i, v)
	}
	f.Fuzz(func(t *testing.T, i int, value string) {
		key := keys[(i%len(keys)+len(keys))%len(keys)]
		n, s := network(six), sandbox(sandbox6, everyKind)
		endpointOption(key, value)(s)
		objs, err := bridge.Driver{}.Endpoint(driver.Env{Table: table}, &n, s, &s.Endpoints[0], s.Ports)
		if err != nil && !errors.Is(err, cnm.ErrInvalid) {
			t.Fatalf("%s=%q is refused for no fault of it: %v", key, value, err)
		}
		if err == nil {
			for _, o := range objs {
				if p, ok := o.(dataplane.Sysctl); ok && (!filepath.IsLocal(p.Name) || !strings.HasPrefix(p.Name, "net/") || strings.Split(p.Name, "/")[3] != "eth0") {
					t.Errorf("%s=%q leads to %s", key, value, p.Name)
				}
			}
		}
		s = sandbox(sandbox6, everyKind)
		n.Options[key] = value
		if err := (bridge.Driver{}).Check(&n); err != nil {
			return
		}
		objs, err = bridge.Driver{}.Network(driver.Env{Table: table}, &n)
		if err == nil {
			var more []dataplane.Object
			more, err = bridge.Driver{}.Endpoint(driver.Env{Table: table}, &n, s, &s.Endpoints[0], s.Ports)
			objs = append(objs, more...)
		}
		if err != nil {
			t.Fatalf("%s=%q is taken and not planned: %v", key, value, err)
		}
		for _, o := range objs {
			if e, ok := o.(dataplane.Element); ok && strings.ContainsAny(e.KeyText+e.DataText, "\n\\") {
				t.Errorf("%s=%q makes the element %s", key, value, e.KeyText)
			}
		}
	})
}
