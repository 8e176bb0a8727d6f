package ruleset

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Message is one answer of a dump, as dataplane/live gets it: what it is, the family and
// the attributes.
type Message struct {
	What   string // "table", "chain", "rule", "set", "elements", "object"
	Family byte
	Body   []byte
}

// Build puts a dump's messages together: tables first, and sets before their elements.
func Build(all []Message) *Ruleset {
	rs := &Ruleset{}
	type owner struct {
		family byte
		name   string
	}
	tables := map[owner]*Table{}
	for _, m := range all {
		switch m.What {
		case "table":
			t := DecodeTable(m.Family, m.Body)
			rs.Tables = append(rs.Tables, t)
			t.chains, t.sets = map[string]*Chain{}, map[string]*Set{}
			tables[owner{m.Family, t.Name}] = t
		case "chain":
			name, c := DecodeChain(m.Family, m.Body)
			if t := tables[owner{m.Family, name}]; t != nil {
				t.Chains = append(t.Chains, c)
				t.chains[c.Name] = c
			}
		case "rule":
			name, chain, r := DecodeRule(m.Body)
			if t := tables[owner{m.Family, name}]; t != nil {
				if c := t.Chain(chain); c != nil {
					c.Rules = append(c.Rules, r)
				}
			}
		case "set":
			name, s := DecodeSet(m.Body)
			if t := tables[owner{m.Family, name}]; t != nil {
				t.Sets = append(t.Sets, s)
				t.sets[s.Name] = s
			}
		case "elements":
			DecodeElements(m.Body, func(name, set string) *Set {
				if t := tables[owner{m.Family, name}]; t != nil {
					return t.Set(set)
				}
				return nil
			})
		case "object":
			name, o := DecodeObject(m.Body)
			if t := tables[owner{m.Family, name}]; t != nil {
				t.Objects = append(t.Objects, o)
			}
		}
	}
	rs.Link()
	return rs
}

// WriteMessages keeps a dump, a line for each message: what is told of a ruleset that
// somebody sent can be looked at on another machine.
func WriteMessages(to io.Writer, all []Message) error {
	for _, m := range all {
		if _, err := fmt.Fprintf(to, "%s %d %s\n", m.What, m.Family, hex.EncodeToString(m.Body)); err != nil {
			return err
		}
	}
	return nil
}

// ReadMessages reads what WriteMessages wrote.
func ReadMessages(from io.Reader) (all []Message, err error) {
	s := bufio.NewScanner(from)
	s.Buffer(nil, 8<<20)
	for s.Scan() {
		w := strings.Fields(s.Text())
		if len(w) != 3 {
			return nil, fmt.Errorf("not a message of a ruleset: %.40q", s.Text())
		}
		n, err := strconv.ParseUint(w[1], 10, 8)
		if err != nil {
			return nil, fmt.Errorf("not a message of a ruleset: %w", err)
		}
		b, err := hex.DecodeString(w[2])
		if err != nil {
			return nil, fmt.Errorf("not a message of a ruleset: %w", err)
		}
		all = append(all, Message{w[0], byte(n), b})
	}
	return all, s.Err()
}
