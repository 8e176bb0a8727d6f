package lab

import (
	"slices"
	"strings"
)

// Differ are the lines that only one of two texts has: "- " those of before, "+ "
// those of now. It is empty when nothing changed.
func Differ(before, now string) string {
	var b strings.Builder
	old, fresh := strings.Split(before, "\n"), strings.Split(now, "\n")
	only := func(mark string, of, other []string) {
		for _, l := range of {
			if !slices.Contains(other, l) {
				b.WriteString(mark + l + "\n")
			}
		}
	}
	only("- ", old, fresh)
	only("+ ", fresh, old)
	return b.String()
}
