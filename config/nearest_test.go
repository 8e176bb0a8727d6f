package config

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	words := []string{"run", "rm", "exec", "ps", "network", "registry-mirrors", "insecure-registries", "data-root", "debug", "dns", "dns-opts", "top"}
	for _, c := range []struct{ in, want string }{
		{"rn", "run"},          // rm is as far, but run has the letters in order
		{"rum", "run"},         //
		{"netwrok", "network"}, // two neighbours swapped are one mistake
		{"registry-mirror", "registry-mirrors"},
		{"registry", "registry-mirrors"}, // an unfinished word
		{"insecure-registry", "insecure-registries"},
		{"dataroot", "data-root"},  // dashes do not count
		{"DATA_ROOT", "data-root"}, // nor do case and underscores
		{"dns-opt", "dns-opts"},
		{"dbug", "debug"},
		{"foo", ""}, // nothing is near
		{"zzzzzzzz", ""},
		{"", ""},
		{"-", ""},
	} {
		if got := Nearest(c.in, words); got != c.want {
			t.Errorf("Nearest(%q) = %q, want %q", c.in, got, c.want)
		}
	}
	if got := Nearest("run", nil); got != "" {
		t.Errorf("Nearest among none = %q", got)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0},
		{"abc", "acb", 1}, {"abc", "abd", 1}, {"abc", "ab", 1}, {"abc", "xabc", 1}, {"kitten", "sitting", 3},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func FuzzNearest(f *testing.F) {
	f.Add("registry", "registry-mirrors,debug")
	f.Fuzz(func(t *testing.T, word, list string) {
		candidates := strings.Split(list, ",")
		got := Nearest(word, candidates)
		if got == "" {
			return
		}
		for _, c := range candidates {
			if c == got {
				return
			}
		}
		t.Errorf("Nearest(%q, %q) = %q, which is not a candidate", word, list, got)
	})
}
