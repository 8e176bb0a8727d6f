package diagnose

import (
	"strings"

	"linkspan/cnm"
	"linkspan/config"
)

// Container finds one by name, id or unique prefix of an id. Who is not there is
// cnm.ErrNotFound, with the nearest name.
func (w *World) Container(ref string) (Container, error) {
	var found []Container
	var names []string
	for _, c := range w.Declared.Containers() {
		if c.ID == ref || c.Name == strings.TrimPrefix(ref, "/") {
			return c, nil
		}
		if len(ref) > 1 && strings.HasPrefix(c.ID, ref) {
			found = append(found, c)
		}
		names = append(names, c.Name)
	}
	return one(found, "container", ref, names, "linkspan ps -a")
}

// Network finds one likewise.
func (w *World) Network(ref string) (*cnm.Network, error) {
	var found []*cnm.Network
	var names []string
	for _, n := range w.Declared.Networks() {
		if n.ID == ref || n.Name == ref {
			return n, nil
		}
		if len(ref) > 1 && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
		names = append(names, n.Name)
	}
	return one(found, "network", ref, names, "linkspan network ls")
}

func one[T any](found []T, what, ref string, names []string, list string) (none T, err error) {
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if near := config.Nearest(ref, names); near != "" {
			return none, cnm.NotFound("there is no %s %q; did you mean %s? `%s` lists all", what, ref, near, list)
		}
		return none, cnm.NotFound("there is no %s %q; `%s` lists all", what, ref, list)
	}
	return none, cnm.Invalid("%q is the beginning of %d ids; write more of it, or the name", ref, len(found))
}

// Sandbox returns the one that a container is in.
func (w *World) Sandbox(containerID string) (*cnm.Sandbox, bool) {
	for _, s := range w.Declared.Sandboxes() {
		for _, m := range s.Members {
			if m == containerID {
				return s, true
			}
		}
	}
	return nil, false
}
