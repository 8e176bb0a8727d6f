package graph

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// The picture's measures in pixels. Text is set in a monospace font, of which a
// character is 0.6 em wide, so that widths are known without a browser.
const (
	charWide  = 7.25
	lineHigh  = 17
	margin    = 16
	pad       = 10
	channel   = 90 // between networks and labels: where second endpoints' lines bend
	mostPorts = 8  // of a container; the others are counted
	nameMost  = 34 // characters
)

// layout is the picture before it is drawn: networks on the left, each as tall as the
// rows of the containers that are at home on it; labels of endpoints; containers; and
// published ports.
type layout struct {
	netW, labelW, cardW, portW   int
	netX, labelX, cardX, portX   int
	upY, upH, top, width, height int
	boxes                        []box
	rows                         []row
	slot                         map[string]int // of a network: second endpoints that were led to it
}

// box is a network.
type box struct {
	net    *Network // nil: containers on no network
	title  []string
	y, h   int
	second int // how many second endpoints lead here
}

// row is a container.
type row struct {
	c     *Container
	box   int
	text  []string
	ports []string
	y, h  int
}

func chars(n int) int { return int(float64(n)*charWide + 0.5) }

func long(s string) int { return utf8.RuneCountInString(s) }

// short cuts what is too long for its place; titles have it whole.
func short(s string, most int) string {
	if long(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

func (g *Graph) layout() *layout {
	l := &layout{slot: map[string]int{}}
	at := map[string]int{}
	for i := range g.Networks {
		n := &g.Networks[i]
		at[n.ID] = len(l.boxes)
		l.boxes = append(l.boxes, box{net: n, title: n.lines()})
	}
	l.boxes = append(l.boxes, box{title: []string{"on no network"}})
	homes := g.homes(at, len(l.boxes)-1)
	for i := range g.Containers {
		l.rows = append(l.rows, newRow(&g.Containers[i], homes[i]))
	}
	// Who shares a stack stands below its owner, and who does not run last.
	slices.SortStableFunc(l.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.box, b.box), cmp.Compare(rank(a.c.Sandbox == ""), rank(b.c.Sandbox == "")),
			strings.Compare(cmp.Or(a.c.With, a.c.Name), cmp.Or(b.c.With, b.c.Name)), cmp.Compare(rank(a.c.With != ""), rank(b.c.With != "")))
	})
	for _, c := range g.Containers {
		for i := range c.Endpoints {
			if e := &c.Endpoints[i]; !c.first(e) {
				if b, ok := at[e.Network]; ok {
					l.boxes[b].second++
				}
			}
		}
	}
	l.empty()
	l.columns()
	l.place(g)
	return l
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}

// homes are the boxes that containers stand at, by their place in g.Containers.
func (g *Graph) homes(at map[string]int, none int) []int {
	out := make([]int, len(g.Containers))
	byName := map[string]int{}
	for i := range g.Containers {
		c := &g.Containers[i]
		byName[c.Name], out[i] = i, none
		if e := c.home(); e != nil {
			if b, ok := at[e.Network]; ok {
				out[i] = b
			}
		} else if len(c.Wanted) > 0 {
			if n := g.named(c.Wanted[0]); n != nil {
				out[i] = at[n.ID]
			}
		}
	}
	for i := range g.Containers { // who shares a stack stands where its owner does
		if o, ok := byName[g.Containers[i].With]; ok && g.Containers[i].With != "" {
			out[i] = out[o]
		}
	}
	return out
}

// empty takes out the boxes of networks that can have no addresses, where nobody is.
func (l *layout) empty() {
	used := make([]bool, len(l.boxes))
	for _, r := range l.rows {
		used[r.box] = true
	}
	moved, kept := make([]int, len(l.boxes)), []box{}
	for i, b := range l.boxes {
		moved[i] = len(kept)
		if used[i] || b.second > 0 || b.net != nil && len(b.net.Pools) > 0 {
			kept = append(kept, b)
		}
	}
	l.boxes = kept
	for i := range l.rows {
		l.rows[i].box = moved[l.rows[i].box]
	}
}

func newRow(c *Container, b int) row {
	r := row{c: c, box: b, text: []string{short(c.Name, nameMost), short(c.Status(), nameMost)}}
	if c.With != "" {
		r.text = append(r.text, short("in the stack of "+c.With, nameMost))
	}
	for i, p := range c.Ports {
		if i == mostPorts-1 && len(c.Ports) > mostPorts {
			break
		}
		r.ports = append(r.ports, p.String())
	}
	r.h = max(len(r.text), len(c.Endpoints), len(r.ports)+min(1, len(c.Ports)-len(r.ports)))*lineHigh + pad
	return r
}

// lines are what a network's box says.
func (n *Network) lines() []string {
	out := []string{short(n.Name, nameMost)}
	for _, p := range n.Pools {
		out = append(out, p.Subnet.String())
		if p.Gateway.IsValid() {
			out = append(out, "gateway "+p.Gateway.String())
		}
	}
	if n.Device != "" {
		out = append(out, short(n.Driver+" "+n.Device, nameMost))
	} else {
		out = append(out, n.Driver)
	}
	if n.State != "" && n.State != "up" && n.State != "no carrier" {
		out = append(out, "device is "+n.State)
	}
	return append(out, n.Notes...)
}

// label of an endpoint, on its line.
func (e *Endpoint) label() string {
	s := e.IfName
	if a := addresses(e.Addrs); a != "" {
		s += " " + a
	}
	return short(s, 48)
}

func (l *layout) columns() {
	widest := func(least int, all ...[]string) int {
		n := least
		for _, lines := range all {
			for _, s := range lines {
				n = max(n, long(s))
			}
		}
		return chars(n) + 2*pad
	}
	var nets, cards, ports, labels [][]string
	for _, b := range l.boxes {
		nets = append(nets, b.title)
	}
	for _, r := range l.rows {
		cards, ports = append(cards, r.text), append(ports, r.ports)
		for i := range r.c.Endpoints {
			labels = append(labels, []string{r.c.Endpoints[i].label()})
		}
	}
	l.netW, l.cardW, l.labelW = widest(16, nets...), widest(14, cards...), widest(10, labels...)
	if slices.ContainsFunc(ports, func(p []string) bool { return len(p) > 0 }) {
		l.portW = widest(10, ports...)
	}
	l.netX = 2 * margin
	l.labelX = l.netX + l.netW + channel
	l.cardX = l.labelX + l.labelW
	l.portX = l.cardX + l.cardW + 3*margin
	l.width = l.portX + l.portW + 2*margin
}

func (l *layout) place(g *Graph) {
	l.upY = margin + 2*lineHigh
	for _, u := range g.Host.Uplinks {
		l.upH = max(l.upH, (2+len(u.Addrs)+len(u.Gateways))*lineHigh+pad)
	}
	y := l.upY
	if l.upH > 0 {
		y += l.upH + margin
	}
	l.top = y
	next := 0
	for i := range l.boxes {
		b := &l.boxes[i]
		b.y = y
		for next < len(l.rows) && l.rows[next].box == i {
			l.rows[next].y = y
			y += l.rows[next].h + pad
			next++
		}
		b.h = max(y-pad-b.y, len(b.title)*lineHigh+pad, 2*pad+b.second*lineHigh)
		y = b.y + b.h + margin + pad
	}
	l.height = y + margin
}
