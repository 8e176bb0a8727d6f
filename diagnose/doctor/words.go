package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"linkspan/dns"
)

const resolverPort = dns.Port

// names joins words for a sentence: "a, b and c"; at most six of them.
func names(list []string) string {
	switch n := len(list); {
	case n == 0:
		return "none"
	case n == 1:
		return list[0]
	case n <= 6:
		return strings.Join(list[:n-1], ", ") + " and " + list[n-1]
	default:
		return fmt.Sprintf("%s and %d more", strings.Join(list[:5], ", "), n-5)
	}
}

// few is names for at most n.
func few(list []string, n int) string {
	if len(list) > n {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:n], ", "), len(list)-n)
	}
	return names(list)
}

func sorted(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }

// ports reads "32768	60999".
func ports(s string) (low, high int, ok bool) {
	f := strings.Fields(s)
	if len(f) != 2 {
		return 0, 0, false
	}
	low, err := strconv.Atoi(f[0])
	high, err2 := strconv.Atoi(f[1])
	return low, high, err == nil && err2 == nil
}

// covers says whether a list of ranges ("8080,9148-9150") has all of low to high.
func covers(list string, low, high int) bool {
	for p := low; p <= high; p++ {
		if !slices.ContainsFunc(strings.Split(list, ","), func(r string) bool {
			a, b, isRange := strings.Cut(strings.TrimSpace(r), "-")
			if !isRange {
				b = a
			}
			x, err := strconv.Atoi(a)
			y, err2 := strconv.Atoi(b)
			return err == nil && err2 == nil && x <= p && p <= y
		}) {
			return false
		}
	}
	return true
}

// join adds to a list with commas.
func join(list, more string) string {
	if list == "" {
		return more
	}
	return list + "," + more
}

// size writes bytes for people.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// percent of whole, without overflow for what disks have.
func percent(part, whole uint64) int {
	if whole == 0 {
		return 0
	}
	return int(float64(part) / float64(whole) * 100)
}
