package driver

import (
	"maps"
	"slices"

	"linkspan/cnm"
)

// Decode runs a network's options through the decoders of the keys that a
// driver knows, in key order. An unknown key is cnm.ErrInvalid and names the
// nearest valid one; a bad value names key and value.
func Decode(n *cnm.Network, known map[string]func(string) error) error {
	return decode(n.Options, known, "network "+n.Name, "driver "+n.Driver+" has no option")
}

func decode(options map[string]string, known map[string]func(string) error, whose, refusal string) error {
	for _, k := range slices.Sorted(maps.Keys(options)) {
		set, ok := known[k]
		if !ok {
			return cnm.Invalid("%s: %s %q%s", whose, refusal, k, didYouMean(k, known))
		}
		if err := set(options[k]); err != nil {
			return cnm.Invalid("%s: option %s=%s: %w", whose, k, options[k], err)
		}
	}
	return nil
}

func didYouMean(key string, known map[string]func(string) error) string {
	best, dist := "", len(key)/2+1
	for k := range known {
		if d := distance(key, k); d < dist || d == dist && k < best {
			best, dist = k, d
		}
	}
	if best == "" {
		return "; it takes none like it"
	}
	return "; did you mean " + best + "?"
}

// distance is the number of single-character edits between two words
// (Levenshtein, 1966).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// DecodeEndpoint is Decode for an endpoint's options.
func DecodeEndpoint(n *cnm.Network, e *cnm.Endpoint, known map[string]func(string) error) error {
	return decode(e.DriverOpts, known, "an endpoint on network "+n.Name, "endpoints on "+n.Driver+" networks take no driver option")
}
