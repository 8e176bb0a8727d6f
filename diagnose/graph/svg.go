package graph

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Linker gives a node's href; "" is no link.
type Linker func(Node) string

const style = `
.ls-graph{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:12px;--ink:#1f2937;--soft:#6b7280;--line:#64748b;--net:#dbeafe;--card:#fff;--port:#dcfce7;--up:#f1f5f9;--bad:#dc2626;--back:#fafafa}
@media (prefers-color-scheme:dark){.ls-graph{--ink:#e5e7eb;--soft:#9ca3af;--line:#94a3b8;--net:#1e3a5f;--card:#1f2937;--port:#14532d;--up:#1e293b;--bad:#f87171;--back:#111827}}
.ls-graph text{fill:var(--ink)}.ls-graph .ls-soft{fill:var(--soft)}.ls-graph .ls-name{font-weight:bold}
.ls-graph rect{stroke:var(--line);stroke-width:1}.ls-graph .ls-back{fill:var(--back)}
.ls-network rect{fill:var(--net)}.ls-container rect{fill:var(--card)}.ls-port rect{fill:var(--port)}.ls-uplink rect{fill:var(--up)}
.ls-graph path{fill:none;stroke:var(--line);stroke-width:1.2}.ls-off rect,.ls-off path{stroke-dasharray:4 3}
.ls-c0 path{stroke:#2563eb}.ls-c1 path{stroke:#b45309}.ls-c2 path{stroke:#0f766e}.ls-c3 path{stroke:#9333ea}.ls-c4 path{stroke:#be185d}.ls-c5 path{stroke:#4d7c0f}
.ls-graph .ls-bad rect,.ls-graph .ls-bad path{stroke:var(--bad);stroke-width:2}.ls-graph a:hover rect{stroke-width:2.5}
`

// colours is how many lines' colours there are in style.
const colours = 6

// canvas writes SVG, of which it knows as much as this picture needs.
type canvas struct {
	b    strings.Builder
	link Linker
}

// WriteSVG draws the graph, with each node's id and title, and a link where link
// gives one (nil: none). The picture needs nothing from elsewhere.
func (g *Graph) WriteSVG(w io.Writer, link Linker) error {
	l := g.layout()
	wide := margin
	for _, u := range g.Host.Uplinks {
		wide += uplinkWide(&u) + margin
	}
	l.width = max(l.width, wide+margin)
	c := &canvas{link: link}
	fmt.Fprintf(&c.b, `<svg xmlns="http://www.w3.org/2000/svg" class="ls-graph" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="networks of host %s">`+"\n<style>%s</style>\n",
		l.width, l.height, escape(g.Host.Name), style)
	host := Node{KindHost, g.Host.Name, g.Host.Name}
	c.node(host, "", "host "+g.Host.Name, func() {
		c.rect(margin/2, margin/2, l.width-margin, l.height-margin, "ls-back")
		c.text(margin, margin+lineHigh-3, "host "+g.Host.Name, "ls-name")
	})
	x := 2 * margin
	for i := range g.Host.Uplinks {
		x = c.uplink(l, &g.Host.Uplinks[i], x)
	}
	for i := range l.rows { // lines first: shapes cover their ends
		c.lines(l, &l.rows[i])
	}
	for i := range l.boxes {
		c.network(l, &l.boxes[i])
	}
	for i := range l.rows {
		c.container(l, &l.rows[i])
	}
	c.b.WriteString("</svg>\n")
	_, err := io.WriteString(w, c.b.String())
	return err
}

func uplinkLines(u *Uplink) []string {
	out := []string{u.Name, u.State}
	for _, a := range u.Addrs {
		out = append(out, a.String())
	}
	for _, gw := range u.Gateways {
		out = append(out, "default via "+gw.String())
	}
	return out
}

func uplinkWide(u *Uplink) int {
	n := 8
	for _, s := range uplinkLines(u) {
		n = max(n, long(s))
	}
	return chars(n) + 2*pad
}

func (c *canvas) uplink(l *layout, u *Uplink, x int) int {
	w := uplinkWide(u)
	c.node(u.node(), bad(u.State), strings.Join(append(uplinkLines(u), u.MAC), "\n"), func() {
		c.rect(x, l.upY, w, l.upH, "")
		c.column(x+pad, l.upY, uplinkLines(u))
	})
	return x + w + margin
}

func (c *canvas) network(l *layout, b *box) {
	draw := func() {
		c.rect(l.netX, b.y, l.netW, b.h, "")
		c.column(l.netX+pad, b.y, b.title)
	}
	if b.net == nil {
		c.group("ls-off", "containers on no network", draw)
		return
	}
	c.node(b.net.node(), bad(b.net.State), b.net.title(), draw)
}

func (c *canvas) container(l *layout, r *row) {
	class := ""
	if r.c.Sandbox == "" {
		class = "ls-off"
	}
	c.node(r.c.node(), class, lines(r.c.Name, r.c.Image, r.c.Status(), r.c.ID[:min(12, len(r.c.ID))]), func() {
		c.rect(l.cardX, r.y, l.cardW, r.h, "")
		c.column(l.cardX+pad, r.y, r.text)
	})
	for i, s := range r.ports {
		p, y := r.c.Ports[i], r.y+pad/2+i*lineHigh
		c.node(r.c.portNode(p), "", p.String()+" of "+r.c.Name, func() {
			c.path(l.cardX+l.cardW, y+lineHigh/2, fmt.Sprintf("H%d", l.portX))
			c.rect(l.portX, y+1, l.portW, lineHigh-2, "")
			c.text(l.portX+pad, y+lineHigh-5, s, "")
		})
	}
	if more := len(r.c.Ports) - len(r.ports); more > 0 {
		c.text(l.portX+pad, r.y+pad/2+(len(r.ports)+1)*lineHigh-5, fmt.Sprintf("and %d more", more), "ls-soft")
	}
}

// lines leads a container's endpoints to their networks: the one it is at home on
// straight, the others by a bend in the channel beside the networks.
func (c *canvas) lines(l *layout, r *row) {
	from := l.netX + l.netW
	for i := range r.c.Endpoints {
		e := &r.c.Endpoints[i]
		y := r.y + pad/2 + i*lineHigh + lineHigh - 3
		home := r.c.first(e)
		for j := range l.boxes {
			b := &l.boxes[j]
			if b.net == nil || b.net.ID != e.Network {
				continue
			}
			title := lines(r.c.Name+" on "+e.Name, e.IfName+" "+addresses(e.Addrs), e.MAC, e.HostIf, e.State)
			// A colour for each network, so that a line can be followed through the channel.
			class := strings.TrimSpace(fmt.Sprintf("ls-c%d %s", j%colours, bad(e.State)))
			c.node(r.c.endpointNode(e), class, title, func() {
				if home {
					c.path(l.cardX, y, fmt.Sprintf("H%d", from))
				} else {
					to := b.y + pad + l.slot[e.Network]*lineHigh + lineHigh/2
					l.slot[e.Network]++
					c.path(l.cardX, y, fmt.Sprintf("H%d C%d %d %d %d %d %d", l.labelX, l.labelX-channel/2, y, from+channel/2, to, from, to))
				}
				c.text(l.labelX+pad, y-4, e.label(), "ls-soft")
			})
		}
	}
	if len(r.c.Endpoints) > 0 {
		return
	}
	// Who has no endpoint of its own is led to where it belongs.
	switch {
	case r.c.With != "":
		c.group("ls-off", r.c.Name+" shares the network stack of "+r.c.With, func() { c.path(l.cardX+2*pad, r.y, fmt.Sprintf("V%d", r.y-pad)) })
	case len(r.c.Wanted) > 0:
		c.group("ls-off", r.c.Name+" wants network "+r.c.Wanted[0], func() { c.path(l.cardX, r.y+r.h/2, fmt.Sprintf("H%d", from)) })
	}
}

// column sets lines of text below each other, the first one as the name.
func (c *canvas) column(x, y int, all []string) {
	for i, s := range all {
		class := "ls-soft"
		if i == 0 {
			class = "ls-name"
		}
		c.text(x, y+pad/2+(i+1)*lineHigh-4, s, class)
	}
}

// node draws a node as a group with id and title, linked.
func (c *canvas) node(n Node, class, title string, draw func()) {
	href := ""
	if c.link != nil {
		href = c.link(n)
	}
	if href != "" {
		fmt.Fprintf(&c.b, `<a href="%s">`, escape(href))
	}
	fmt.Fprintf(&c.b, `<g id="%s" class="%s"><title>%s</title>`, n.anchor(), strings.TrimSpace("ls-"+string(n.Kind)+" "+class), escape(strings.TrimSpace(title)))
	draw()
	c.b.WriteString("</g>")
	if href != "" {
		c.b.WriteString("</a>")
	}
	c.b.WriteByte('\n')
}

func (c *canvas) group(class, title string, draw func()) {
	fmt.Fprintf(&c.b, `<g class="%s"><title>%s</title>`, class, escape(title))
	draw()
	c.b.WriteString("</g>\n")
}

func (c *canvas) rect(x, y, w, h int, class string) {
	if class != "" {
		class = fmt.Sprintf(` class="%s"`, class)
	}
	fmt.Fprintf(&c.b, `<rect x="%d" y="%d" width="%d" height="%d" rx="5"%s/>`, x, y, w, h, class)
}

func (c *canvas) path(x, y int, rest string) { fmt.Fprintf(&c.b, `<path d="M%d %d %s"/>`, x, y, rest) }

func (c *canvas) text(x, y int, s, class string) {
	if class != "" {
		class = fmt.Sprintf(` class="%s"`, class)
	}
	fmt.Fprintf(&c.b, `<text x="%d" y="%d"%s>%s</text>`, x, y, class, escape(s))
}

// bad is the class of what should be up and is not. A bridge without containers has
// no carrier, and is well.
func bad(state string) string {
	if state == "down" || state == "missing" {
		return "ls-bad"
	}
	return ""
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes all
	return b.String()
}
