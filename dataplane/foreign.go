package dataplane

// Foreign is a link that holds a name we want and does not carry our mark. It is
// only ever observed (Kernel.ObserveKeys), so that a conflict can name the
// holder; no operation touches it.
type Foreign struct {
	Meta
	Name string
	What string // kind and group, e.g. "bridge, group 0"
}

func (o Foreign) Key() string                         { return "link " + o.Name }
func (o Foreign) Spec() string                        { return "not ours (" + o.What + ")" }
func (o Foreign) Phase() Phase                        { return PhaseLink }
func (o Foreign) Commands() (create, remove []string) { return nil, nil }
