package graph

import (
	"fmt"
	"io"
	"strings"
)

// WriteDOT writes the graph for graphviz: `linkspan graph --format dot | dot -Tpng`.
func (g *Graph) WriteDOT(w io.Writer) error {
	var b strings.Builder
	b.WriteString("graph linkspan {\n\trankdir=LR;\n\tnode [shape=box, fontname=\"monospace\", fontsize=10];\n\tedge [fontname=\"monospace\", fontsize=9];\n")
	fmt.Fprintf(&b, "\tsubgraph cluster_host {\n\t\tlabel=%s;\n", quote("host "+g.Host.Name))
	for i := range g.Host.Uplinks {
		u := &g.Host.Uplinks[i]
		dotNode(&b, u.node(), "shape=hexagon", u.Name, join(u.Addrs, "\n"), u.State)
	}
	for i := range g.Networks {
		n := &g.Networks[i]
		var pools []string
		for _, p := range n.Pools {
			pools = append(pools, p.Subnet.String())
		}
		dotNode(&b, n.node(), "shape=box, style=\"rounded,filled\", fillcolor=\"#dbeafe\"", n.Name, strings.Join(pools, "\n"), n.Device, strings.Join(n.Notes, ", "))
	}
	for i := range g.Containers {
		c := &g.Containers[i]
		style := "style=solid"
		if c.Sandbox == "" {
			style = "style=dashed"
		}
		dotNode(&b, c.node(), style, c.Name, c.Image, c.Status())
		for _, p := range c.Ports {
			dotNode(&b, c.portNode(p), "shape=cds", p.Host())
		}
	}
	b.WriteString("\t}\n")
	for i := range g.Containers {
		g.dotEdges(&b, &g.Containers[i])
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (g *Graph) dotEdges(b *strings.Builder, c *Container) {
	me := quote(c.node().anchor())
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		style := ""
		if e.State != "" && e.State != "up" {
			style = ", color=red"
		}
		fmt.Fprintf(b, "\t%s -- %s [id=%s, label=%s%s];\n", quote(Node{Kind: KindNetwork, ID: e.Network}.anchor()), me,
			quote(c.endpointNode(e).anchor()), quote(lines(e.IfName, addresses(e.Addrs), e.HostIf)), style)
	}
	for _, p := range c.Ports {
		fmt.Fprintf(b, "\t%s -- %s [label=%s];\n", me, quote(c.portNode(p).anchor()), quote(p.Inside()))
	}
	for i := range g.Containers {
		if o := &g.Containers[i]; c.With != "" && o.Name == c.With {
			fmt.Fprintf(b, "\t%s -- %s [style=dotted, label=\"shares its network stack\"];\n", quote(o.node().anchor()), me)
		}
	}
	if c.Sandbox != "" {
		return
	}
	for _, name := range c.Wanted {
		if n := g.named(name); n != nil {
			fmt.Fprintf(b, "\t%s -- %s [style=dashed];\n", quote(n.node().anchor()), me)
		}
	}
}

func dotNode(b *strings.Builder, n Node, style string, label ...string) {
	fmt.Fprintf(b, "\t\t%s [id=%[1]s, label=%s, %s];\n", quote(n.anchor()), quote(lines(label...)), style)
}

// lines joins what is not empty.
func lines(all ...string) string {
	var out []string
	for _, l := range all {
		if l != "" {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

// quote makes a DOT string: only the quote is special in it, and the backslash of
// escapes that labels have.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
