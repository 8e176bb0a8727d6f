package graph

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// branch is a line of the tree and what hangs on it. Cells of neighbours are aligned.
type branch struct {
	cells []string
	below []*branch
}

func (b *branch) add(cells ...string) *branch {
	n := &branch{cells: cells}
	b.below = append(b.below, n)
	return n
}

// treePorts is how many published ports of a container are told.
const treePorts = 20

// WriteText draws the tree.
func (g *Graph) WriteText(w io.Writer) error {
	root := &branch{cells: []string{"host " + g.Host.Name}}
	for _, u := range g.Host.Uplinks {
		out := u.State
		if len(u.Gateways) > 0 {
			out += ", default route via " + join(u.Gateways, " and ")
		}
		root.add(u.Name, join(u.Addrs, " "), out)
	}
	for i := range g.Networks {
		g.treeNetwork(root, &g.Networks[i])
	}
	g.treeRest(root)
	var b strings.Builder
	b.WriteString(root.cells[0] + "\n")
	root.draw(&b, "")
	_, err := io.WriteString(w, b.String())
	return err
}

func (g *Graph) treeNetwork(root *branch, n *Network) {
	on := &branch{cells: []string{n.title()}}
	for i := range g.Containers {
		c := &g.Containers[i]
		for j := range c.Endpoints {
			if e := &c.Endpoints[j]; e.Network == n.ID {
				g.treeEndpoint(on, c, e)
			}
		}
	}
	if len(on.below) == 0 && len(n.Pools) == 0 && n.Driver != "bridge" {
		return // host or none, and nobody there
	}
	root.below = append(root.below, on)
}

func (g *Graph) treeEndpoint(on *branch, c *Container, e *Endpoint) {
	state := c.Status()
	if e.State != "" && e.State != "up" {
		state += ", " + e.HostIf + " is " + e.State
	}
	var at *branch
	if e.IfName == "" {
		at = on.add(c.Name, state)
	} else {
		at = on.add(c.Name, e.IfName, addresses(e.Addrs), e.MAC, e.HostIf, state)
	}
	if !c.first(e) {
		return // ports and company are said once
	}
	for i, p := range c.Ports {
		if i == treePorts && len(c.Ports) > treePorts+1 {
			at.add(fmt.Sprintf("… and %d more (--format json has all)", len(c.Ports)-treePorts))
			break
		}
		at.add(p.String())
	}
	for i := range g.Containers {
		if o := &g.Containers[i]; o.With == c.Name && o.ID != c.ID {
			at.add("shares its network stack: " + o.Name + ", " + o.Status())
		}
	}
}

// first says that an endpoint is the one that the container is drawn at: where its
// default route leads, or else its first.
func (c *Container) first(e *Endpoint) bool { return c.home() == e }

func (c *Container) home() *Endpoint {
	for i := range c.Endpoints {
		if c.Endpoints[i].Default {
			return &c.Endpoints[i]
		}
	}
	if len(c.Endpoints) == 0 {
		return nil
	}
	return &c.Endpoints[0]
}

// treeRest draws who has no endpoint: alone, or not running.
func (g *Graph) treeRest(root *branch) {
	rest := &branch{cells: []string{"not running"}}
	for i := range g.Containers {
		c := &g.Containers[i]
		switch {
		case c.Sandbox == "":
			rest.add(c.Name, c.Status(), "wants "+strings.Join(c.Wanted, ", "))
		case c.With == "" && len(c.Endpoints) == 0:
			root.add("on no network: " + c.Name + ", " + c.Status())
		}
	}
	if len(rest.below) > 0 {
		root.below = append(root.below, rest)
	}
}

func (n *Network) title() string {
	words := []string{"network " + n.Name}
	for _, p := range n.Pools {
		s := p.Subnet.String()
		if p.Gateway.IsValid() {
			s += " via " + p.Gateway.String()
		}
		words = append(words, s)
	}
	if n.Device != "" {
		d := "on " + n.Device
		if n.State != "" && n.State != "up" && n.State != "no carrier" { // a bridge without containers has none
			d += " (" + n.State + ")"
		}
		words = append(words, d)
	}
	if len(n.Notes) > 0 {
		words = append(words, "("+strings.Join(n.Notes, ", ")+")")
	}
	return strings.Join(words, "  ")
}

// addresses are an endpoint's, without the subnets' lengths: the network has them.
func addresses(all []netip.Prefix) string {
	var out []netip.Addr
	for _, a := range all {
		out = append(out, a.Addr())
	}
	return join(out, " ")
}

func join[T fmt.Stringer](all []T, with string) string {
	var out []string
	for _, a := range all {
		out = append(out, a.String())
	}
	return strings.Join(out, with)
}

// draw writes what is below, cells of branches with as many of them in columns.
func (b *branch) draw(w *strings.Builder, indent string) {
	wide := map[[2]int]int{} // number of cells and column to width
	for _, n := range b.below {
		for i, c := range n.cells[:len(n.cells)-1] {
			key := [2]int{len(n.cells), i}
			wide[key] = max(wide[key], utf8.RuneCountInString(c))
		}
	}
	for i, n := range b.below {
		knee, under := "├─ ", "│  "
		if i == len(b.below)-1 {
			knee, under = "└─ ", "   "
		}
		line := indent + knee
		for j, c := range n.cells {
			line += c
			if j < len(n.cells)-1 {
				if width := wide[[2]int{len(n.cells), j}]; width > 0 {
					line += strings.Repeat(" ", width-utf8.RuneCountInString(c)+2)
				}
			}
		}
		w.WriteString(strings.TrimRight(line, " ") + "\n")
		n.draw(w, indent+under)
	}
}
