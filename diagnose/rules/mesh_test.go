package rules

import (
	"net/netip"
	"strings"
	"testing"

	"linkspan/dataplane"
)

// TestMeshes: networks that span hosts, in the words of iptables.
func TestMeshes(t *testing.T) {
	m := func(id string) dataplane.Meta {
		return dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: id, Name: id}}
	}
	objs := []dataplane.Object{
		dataplane.BridgeElement(m("flat"), "t", "br-flat"), dataplane.EgressElement(m("flat"), "t", "br-flat"),
		dataplane.MasqueradeElement(m("flat"), "t", netip.MustParsePrefix("10.88.0.0/16")),
		dataplane.MeshElement(m("flat"), "t", netip.MustParsePrefix("10.88.0.0/16")),
		dataplane.MeshElement(m("flat"), "t", netip.MustParsePrefix("fd00:88::/64")),
		dataplane.BridgeElement(m("safe"), "t", "br-safe"),
		dataplane.SealedElement(m("safe"), "t", netip.MustParsePrefix("10.89.0.0/16")),
		dataplane.SecureElement(m(""), "t", "wg0"),
	}
	f := newTranslation(objs, true).family()
	it := Iptables{Table: "t", Families: []Family{f, newTranslation(objs, false).family()}}
	for i := range it.Families {
		for j := range it.Families[i].Tables {
			for k := range it.Families[i].Tables[j].Chains {
				c := &it.Families[i].Tables[j].Chains[k]
				for r := range c.Rules {
					c.Rules[r].Text = c.Rules[r].line(c.Name)
				}
			}
		}
	}
	out := text(t, it.WriteText)
	for _, want := range []string{
		"-A POSTROUTING -s 10.88.0.0/16 -d 10.88.0.0/16 ! -o br-flat -j ACCEPT\n-A POSTROUTING -s 10.88.0.0/16 ! -o br-flat -j MASQUERADE\n",
		"-A FORWARD -s 10.88.0.0/16 -d 10.88.0.0/16 ! -i br-flat -o br-flat -j ACCEPT\n-A FORWARD -s 10.88.0.0/16 -d 10.88.0.0/16 -i br-flat ! -o br-flat -j ACCEPT\n",
		"-A FORWARD -s 10.89.0.0/16 -d 10.89.0.0/16 -i wg0 -o br-safe -j ACCEPT\n-A FORWARD -s 10.89.0.0/16 -d 10.89.0.0/16 -i br-safe -o wg0 -j ACCEPT\n" +
			"-A FORWARD -s 10.89.0.0/16 -d 10.89.0.0/16 ! -i br-safe -o br-safe -j DROP\n-A FORWARD -s 10.89.0.0/16 -d 10.89.0.0/16 -i br-safe ! -o br-safe -j DROP\n",
		"-A FORWARD -s fd00:88::/64 -d fd00:88::/64 ! -i br-flat -o br-flat -j ACCEPT\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
