package config

import "strings"

// Nearest returns the candidate that is spelled most like word, or "" when none
// is close enough to be what was meant. Case, dashes and underscores do not
// count: "dataroot" is as near to "data-root" as can be. Among equals a candidate
// that has all letters of word in order wins ("rn": run, not rm), then the first.
func Nearest(word string, candidates []string) string {
	// No key, flag or verb is that long; and what a stranger sent may be a megabyte.
	const longest = 64
	w := fold(word[:min(len(word), 2*longest)])
	if w == "" || len(w) > longest {
		return ""
	}
	// About a third of the word may be wrong, and always one letter: more than that
	// and the suggestion is noise.
	limit := max(1, (len(w)+1)/3)
	best, found := "", 2*(limit+1)
	for _, c := range candidates {
		f := fold(c)
		if len(f) > 2*longest {
			continue
		}
		d := distance(w, f)
		// An unfinished word is a likely slip too ("registry" for "registry-mirrors"),
		// but loses to any candidate that differs by a letter.
		if d > limit && len(w) >= 3 && strings.HasPrefix(f, w) {
			d = limit
		}
		if d > limit || d >= max(len(w), len(f)) {
			continue
		}
		score := 2 * d
		if !within(w, f) {
			score++
		}
		if score < found {
			best, found = c, score
		}
	}
	return best
}

func fold(s string) string {
	return strings.NewReplacer("-", "", "_", "", ".", "").Replace(strings.ToLower(s))
}

// within says whether all of word's bytes come in s in the same order.
func within(word, s string) bool {
	for i := 0; i < len(word); i++ {
		at := strings.IndexByte(s, word[i])
		if at < 0 {
			return false
		}
		s = s[at+1:]
	}
	return true
}

// distance is the optimal string alignment distance in bytes: insert, delete,
// replace, and swap of two neighbours each cost one. Keys, flags and verbs are ASCII.
func distance(a, b string) int {
	older, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], older[j-2]+1)
			}
		}
		older, prev, cur = prev, cur, older
	}
	return prev[len(b)]
}
