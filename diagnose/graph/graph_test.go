package graph

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/internal/golden"
	"linkspan/internal/worldtest"
)

func of(t *testing.T, w *worldtest.World) *Graph {
	t.Helper()
	g, err := Of(context.Background(), w.Diagnose())
	if err != nil {
		t.Fatal(err)
	}
	g.Host.Name = "toy"
	return g
}

func text(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var b strings.Builder
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFormats(t *testing.T) {
	w := worldtest.New()
	w.Live.Links[""][2].Name = "eth1"
	g := of(t, w)
	golden.Compare(t, "testdata/tree.txt", text(t, g.WriteText))
	golden.Compare(t, "testdata/graph.dot", text(t, g.WriteDOT))
	link := func(n Node) string {
		if n.Kind == KindHost {
			return ""
		}
		return "/explain?kind=" + string(n.Kind) + "&name=" + n.Name
	}
	golden.Compare(t, "testdata/graph.svg", text(t, func(w io.Writer) error { return g.WriteSVG(w, link) }))
	b, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/graph.json", string(b)+"\n")
	for range 5 { // the order of maps must not show
		again := of(t, worldtest.New())
		if text(t, again.WriteText) != text(t, g.WriteText) {
			t.Fatal("the same world, another tree")
		}
	}
}

// TestTrouble: what is not as it should be can be seen.
func TestTrouble(t *testing.T) {
	w := worldtest.New()
	links := w.Live.Links[""]
	var kept []reading.Interface
	for _, l := range links {
		switch {
		case l.Name == "br-shop":
			l.Up = false
		case l.Name == w.Boxes[0].Endpoints[0].HostIf:
			continue
		}
		kept = append(kept, l)
	}
	kept = append(kept, reading.Interface{Index: 90, Name: "veth9", Kind: "veth", Up: true}, // another engine's
		reading.Interface{Index: 91, Name: "vethdead", Kind: "veth", Up: true, Group: 0x4D123456})
	w.Live.Links[""] = kept
	g := of(t, w)
	tree := text(t, g.WriteText)
	for _, want := range []string{"on br-shop (down)", w.Boxes[0].Endpoints[0].HostIf + " is missing", "eth1  "} {
		if !strings.Contains(tree, want) {
			t.Errorf("no %q in\n%s", want, tree)
		}
	}
	if strings.Contains(tree, "veth9") || strings.Contains(tree, "vethdead") {
		t.Errorf("others' wires:\n%s", tree)
	}
	if svg := text(t, func(w io.Writer) error { return g.WriteSVG(w, nil) }); strings.Count(svg, "ls-bad\"") != 2 || strings.Contains(svg, "<a ") {
		t.Errorf("bad: %d", strings.Count(svg, "ls-bad\""))
	}
}

func TestWithoutKernel(t *testing.T) {
	w := worldtest.New()
	d := w.Diagnose()
	d.Kernel = nil
	g, err := Of(context.Background(), d)
	if err != nil || len(g.Host.Uplinks) != 0 || len(g.Networks) != 7 || g.Networks[0].State != "" {
		t.Errorf("%v %+v", err, g)
	}
	w.Live.Err = errors.New("netlink is away")
	if _, err := Of(context.Background(), w.Diagnose()); err == nil || !strings.Contains(err.Error(), "netlink is away") {
		t.Errorf("%v", err)
	}
}

// TestMany: 50 containers on one network, and names that want to break out.
func TestMany(t *testing.T) {
	w := worldtest.New()
	var ports []cnm.PublishedPort
	for i := range 20 {
		ports = append(ports, worldtest.Port(fmt.Sprintf("%d:80/tcp", 9000+i)))
	}
	odd := w.AddNetwork(`a"<b>&\n`, "br-odd", []string{"10.99.0.0/16"})
	for i := range 50 {
		w.Run(fmt.Sprintf("c%02d-%s", i, strings.Repeat("x", i)), ports, odd, w.Nets[2])
	}
	g := of(t, w)
	svg := text(t, func(w io.Writer) error { return g.WriteSVG(w, nil) })
	if n := strings.Count(svg, `class="ls-container`); n != len(w.Ctrs) {
		t.Errorf("%d containers drawn, there are %d", n, len(w.Ctrs))
	}
	wellFormed(t, svg)
	if !strings.Contains(svg, "and 13 more") {
		t.Error("ports are cut without a word")
	}
	if dot := text(t, g.WriteDOT); !strings.Contains(dot, `label="a\"<b>&\\n`) {
		t.Errorf("DOT:\n%.3000s", dot)
	}
}

// wellFormed: an XML reader takes it, and no id is there twice.
func wellFormed(t *testing.T, svg string) {
	t.Helper()
	ids := map[string]bool{}
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range e.Attr {
			if a.Name.Local == "id" {
				if ids[a.Value] {
					t.Errorf("id %s twice", a.Value)
				}
				ids[a.Value] = true
			}
		}
	}
	if len(ids) < 10 {
		t.Errorf("%d ids", len(ids))
	}
}

// TestOverlap: no two shapes of a column lie on each other, and nothing lies outside.
func TestOverlap(t *testing.T) {
	w := worldtest.New()
	for i := range 50 {
		w.Run(fmt.Sprintf("c%02d", i), nil, w.Nets[i%5], w.Nets[(i+1)%5])
	}
	l := of(t, w).layout()
	bottom := 0
	for _, b := range l.boxes {
		if b.y < bottom {
			t.Errorf("box at %d, and the last one ends at %d", b.y, bottom)
		}
		bottom = b.y + b.h
	}
	if bottom > l.height {
		t.Errorf("the boxes end at %d, the picture at %d", bottom, l.height)
	}
	bottom = 0
	for _, r := range l.rows {
		b := l.boxes[r.box]
		if r.y < bottom || r.y < b.y || r.y+r.h > b.y+b.h {
			t.Errorf("%s at %d to %d, its network at %d to %d", r.c.Name, r.y, r.y+r.h, b.y, b.y+b.h)
		}
		bottom = r.y + r.h
	}
}
