package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	units "github.com/docker/go-units"
)

func show[T any](v T) string { return fmt.Sprint(v) }

func boolean(at func(*Config) *bool) value {
	return &field[bool]{name: "bool", at: at, format: show[bool], parse: func(s string) (bool, error) {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return false, fmt.Errorf("want true or false, have %q", s)
		}
		return b, nil
	}}
}

// text is a string; check may refuse it or write it in its normal form.
func text(at func(*Config) *string, check func(string) (string, error)) value {
	if check == nil {
		check = func(s string) (string, error) { return s, nil }
	}
	return &field[string]{name: "string", at: at, format: show[string], parse: check}
}

// choice is a string out of a few.
func choice(at func(*Config) *string, words ...string) value {
	return text(at, func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("want %s, have %q", strings.Join(words, " or "), s)
		}
		return s, nil
	})
}

func atoi(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("want a whole number, have %q", s)
	}
	return n, nil
}

// number is a whole number from low to high; 0 is the default, as in dockerd.
func number(at func(*Config) *int, low, high int) value {
	parse := func(s string) (int, error) {
		n, err := atoi(s)
		if err == nil && n != 0 && (n < low || n > high) {
			err = fmt.Errorf("%d is not between %d and %d", n, low, high)
		}
		return n, err
	}
	return &field[int]{name: "int", at: at, format: show[int], parse: parse,
		number: func(n json.Number) (int, error) { return parse(n.String()) }}
}

// seconds is a duration that people write as a number of seconds.
func seconds(at func(*Config) *time.Duration) value {
	parse := func(s string) (time.Duration, error) {
		n, err := atoi(s)
		const most = int(1<<63-1) / int(time.Second)
		if err == nil && (n > most || n < -most) {
			err = fmt.Errorf("%d seconds are more than can be counted", n)
		}
		return time.Duration(n) * time.Second, err
	}
	return &field[time.Duration]{name: "int", at: at, parse: parse,
		format: func(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) },
		number: func(n json.Number) (time.Duration, error) { return parse(n.String()) }}
}

// size is a number of bytes, "64m" or 67108864.
func size(at func(*Config) *int64) value {
	parse := func(s string) (int64, error) {
		n, err := units.RAMInBytes(s)
		switch {
		case err != nil:
			return 0, fmt.Errorf("want a size such as 64m, have %q", s)
		case n <= 0:
			return 0, fmt.Errorf("want a size above zero, have %q", s)
		}
		return n, nil
	}
	return &field[int64]{name: "bytes", at: at, format: show[int64], parse: parse,
		number: func(n json.Number) (int64, error) { return parse(n.String()) }}
}

// level is the log level by dockerd's words; those that slog has not lie beyond
// its ends.
func level(at func(*Config) *slog.Level) value {
	levels := map[string]slog.Level{
		"trace": slog.LevelDebug - 4, "debug": slog.LevelDebug, "info": slog.LevelInfo,
		"warn": slog.LevelWarn, "error": slog.LevelError, "fatal": slog.LevelError + 4, "panic": slog.LevelError + 8,
	}
	return &field[slog.Level]{name: "string", at: at,
		format: func(l slog.Level) string {
			for w, v := range levels {
				if v == l {
					return w
				}
			}
			return l.String()
		},
		parse: func(s string) (slog.Level, error) {
			l, ok := levels[strings.ToLower(s)]
			if !ok {
				return 0, fmt.Errorf("invalid logging level: %s: want debug, info, warn, error or fatal", s)
			}
			return l, nil
		}}
}

func address(at func(*Config) *netip.Addr, check func(netip.Addr) error) value {
	return &field[netip.Addr]{name: "ip", at: at, format: showAddr, parse: func(s string) (netip.Addr, error) {
		a, err := parseAddr(s)
		if err == nil {
			err = check(a)
		}
		return a, err
	}}
}

func showAddr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return a, fmt.Errorf("%q is not an IP address", s)
	}
	return a.Unmap(), nil
}

func prefix(at func(*Config) *netip.Prefix, parse func(string) (netip.Prefix, error)) value {
	return &field[netip.Prefix]{name: "string", at: at, parse: parse, format: func(p netip.Prefix) string {
		if !p.IsValid() {
			return ""
		}
		return p.String()
	}}
}

// list is a flag that may be given several times, and a list of strings in the file.
func list[E any](at func(*Config) *[]E, parse func(string) (E, error)) value {
	one := func(s string) ([]E, error) {
		e, err := parse(s)
		return []E{e}, err
	}
	return &field[[]E]{name: "list", at: at, parse: one,
		join:   func(old, more []E) []E { return append(slices.Clone(old), more...) },
		format: func(l []E) string { return show(l) },
		object: func(raw json.RawMessage) ([]E, error) {
			var words []string
			if kind := jsonKind(raw); kind != "a list" {
				return nil, wrongKind("a list of strings", kind)
			}
			if json.Unmarshal(raw, &words) != nil {
				return nil, fmt.Errorf("want a list of strings, have %s", raw)
			}
			var out []E
			for _, w := range words {
				e, err := parse(w)
				if err != nil {
					return nil, err
				}
				out = append(out, e)
			}
			return out, nil
		}}
}

// hostGateway is a list of addresses; its former key held a single one.
func hostGateway(at func(*Config) *[]netip.Addr) value {
	f := list(at, parseAddr).(*field[[]netip.Addr])
	many := f.object
	f.object = func(raw json.RawMessage) ([]netip.Addr, error) {
		if jsonKind(raw) != "a string" {
			return many(raw)
		}
		s := plain(raw)
		if s == "" {
			return nil, nil
		}
		return f.parse(s)
	}
	return f
}

// table is a flag that may be given several times with one entry each, and an
// object in the file. entry reads the flag, member one member of the object.
func table[E any](at func(*Config) *map[string]E, entry func(string) (string, E, error), member func(key string, raw json.RawMessage) (E, error)) value {
	return &field[map[string]E]{name: "map", at: at,
		parse: func(s string) (map[string]E, error) {
			k, e, err := entry(s)
			return map[string]E{k: e}, err
		},
		join: func(old, more map[string]E) map[string]E {
			old = maps.Clone(old)
			maps.Copy(old, more)
			return old
		},
		format: func(m map[string]E) string {
			b, err := json.Marshal(m) // sorted by key
			if err != nil || len(m) == 0 {
				return "{}"
			}
			return string(b)
		},
		object: func(raw json.RawMessage) (map[string]E, error) {
			var members map[string]json.RawMessage
			if kind := jsonKind(raw); kind != "an object" {
				return nil, wrongKind("an object", kind)
			}
			if err := json.Unmarshal(raw, &members); err != nil {
				return nil, err
			}
			out := map[string]E{}
			for k, m := range members {
				e, err := member(k, m)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", k, err)
				}
				out[k] = e
			}
			return out, nil
		}}
}
