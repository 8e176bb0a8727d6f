package driver

import "linkspan/cnm"

// Translator is implemented by drivers with networks that do not lead ports of the
// host to containers although they publish (gateway mode routed). The networks of
// other drivers that publish do.
type Translator interface {
	// Translates says whether the host's ports of that family lead to containers on
	// the network.
	Translates(n *cnm.Network, v4 bool) bool
}

// Translates asks a driver that publishes.
func Translates(d Driver, n *cnm.Network, v4 bool) bool {
	t, ok := d.(Translator)
	return !ok || t.Translates(n, v4)
}
