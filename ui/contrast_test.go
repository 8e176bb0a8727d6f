package ui

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// luminance is the relative one of WCAG 2.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 32)
	if err != nil || len(colour) != 7 {
		t.Fatalf("colour %q", colour)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(n>>(16-8*i)&255) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

var variable = regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6})`)

// TestContrast: text is at least 4.5 times lighter or darker than what it is on (WCAG
// 2.2, 1.4.3), in the light and in the dark.
func TestContrast(t *testing.T) {
	b, err := files.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	light, rest, _ := strings.Cut(string(b), "@media (prefers-color-scheme: dark)")
	dark, _, _ := strings.Cut(rest, "* { box-sizing")
	for name, sheet := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]string{}
		for _, m := range variable.FindAllStringSubmatch(sheet, -1) {
			colours[m[1]] = m[2]
		}
		pairs := [][2]string{{"ink", "card"}, {"ink", "back"}, {"soft", "card"}, {"soft", "back"}, {"accent", "card"}, {"accent", "back"}, {"accent-ink", "accent"},
			{"problem", "card"}, {"ok", "card"}, {"ink", "code"}, {"ink", "note-back"}}
		if name == "light" { // the dark's badges have colours of their own
			pairs = append(pairs, [][2]string{{"ok", "ok-back"}, {"problem", "problem-back"}, {"warning", "warning-back"}, {"note", "note-back"}}...)
		}
		for _, p := range pairs {
			if c := contrast(t, colours[p[0]], colours[p[1]]); c < 4.5 {
				t.Errorf("%s: %s on %s: %.1f", name, p[0], p[1], c)
			}
		}
	}
	for on, back := range map[string]string{"#dcfce7": "#14532d", "#fee2e2": "#7f1d1d", "#fef3c7": "#713f12", "#dbeafe": "#1e3a8a"} {
		if c := contrast(t, on, back); c < 4.5 {
			t.Errorf("badge %s on %s: %.1f", on, back, c)
		}
	}
}
