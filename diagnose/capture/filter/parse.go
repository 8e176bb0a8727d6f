package filter

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"linkspan/cnm"
)

// Parse reads an expression. names tells the addresses of a host that is written by
// name; it may be nil. Errors are cnm.ErrInvalid and say which word is wrong.
func Parse(text string, names func(name string) ([]netip.Addr, error)) (*Expr, error) {
	p := &parser{words: words(text), names: names}
	if len(p.words) == 0 {
		return nil, nil
	}
	n, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	if !p.end() {
		if p.peek() == ")" {
			return nil, cnm.Invalid("filter %q: a ) without its (", text)
		}
		return nil, p.wrong("an and or an or is missing before %q", p.peek())
	}
	return &Expr{n}, nil
}

const known = "host, net, port, portrange, src, dst, ip, ip6, arp, tcp, udp, sctp, icmp, icmp6, and, or, not and ( )"

type parser struct {
	words []string
	at    int
	names func(string) ([]netip.Addr, error)
	// last is how the previous primitive was qualified: "port 80 or 443" is short for
	// "port 80 or port 443".
	last *qualifiers
}

type qualifiers struct {
	proto string
	dir   direction
	typ   string // "host", "net", "port", "portrange"
}

// words splits at spaces; parentheses and ! are words of their own, && and || too.
func words(text string) (out []string) {
	for _, s := range []string{"(", ")", "&&", "||"} {
		text = strings.ReplaceAll(text, s, " "+s+" ")
	}
	for _, w := range strings.Fields(text) {
		for strings.HasPrefix(w, "!") {
			out = append(out, "not")
			w = w[1:]
		}
		switch w {
		case "":
		case "&&":
			out = append(out, "and")
		case "||":
			out = append(out, "or")
		default:
			out = append(out, w)
		}
	}
	return out
}

func (p *parser) end() bool { return p.at >= len(p.words) }

func (p *parser) peek() string {
	if p.end() {
		return ""
	}
	return p.words[p.at]
}

func (p *parser) next() string {
	w := p.peek()
	p.at++
	return w
}

func (p *parser) accept(w string) bool {
	if p.peek() == w {
		p.at++
		return true
	}
	return false
}

func (p *parser) wrong(format string, args ...any) error {
	return cnm.Invalid("filter %q: %w", strings.Join(p.words, " "), cnm.Invalid(format, args...))
}

// deepest bounds parentheses: a person writes two or three.
const deepest = 50

// expression: and and or have the same precedence and associate to the left, not binds
// closer (pcap-filter(7)).
func (p *parser) expression(depth int) (node, error) {
	if depth > deepest {
		return nil, p.wrong("there are more than %d parentheses in each other", deepest)
	}
	l, err := p.term(depth)
	for err == nil {
		var r node
		switch {
		case p.accept("and"):
			if r, err = p.term(depth); err == nil {
				l = and{l, r}
			}
		case p.accept("or"):
			if r, err = p.term(depth); err == nil {
				l = or{l, r}
			}
		default:
			return l, nil
		}
	}
	return nil, err
}

func (p *parser) term(depth int) (node, error) {
	switch {
	case p.accept("not"):
		if depth > deepest {
			return nil, p.wrong("there are more than %d nots in a row", deepest)
		}
		x, err := p.term(depth + 1)
		return not{x}, err
	case p.accept("("):
		x, err := p.expression(depth + 1)
		if err == nil && !p.accept(")") {
			err = p.wrong("a ( without its )")
		}
		return x, err
	case p.end():
		return nil, p.wrong("it ends where a word is expected")
	}
	return p.primitive()
}

var protocols = map[string]bool{"ip": true, "ip6": true, "arp": true, "tcp": true, "udp": true, "sctp": true, "icmp": true, "icmp6": true}

func (p *parser) primitive() (node, error) {
	var q qualifiers
	if protocols[p.peek()] {
		q.proto = p.next()
		switch p.peek() {
		case "src", "dst", "host", "net", "port", "portrange":
		default:
			p.last = nil
			return proto{q.proto}, nil
		}
	}
	qualified := q.proto != ""
	switch p.peek() {
	case "src":
		p.next()
		q.dir, qualified = src, true
		if op := p.peek(); (op == "or" || op == "and") && p.at+1 < len(p.words) && p.words[p.at+1] == "dst" {
			p.at += 2
			q.dir = either
			if op == "and" {
				q.dir = both
			}
		}
	case "dst":
		p.next()
		q.dir, qualified = dst, true
	}
	switch w := p.peek(); w {
	case "host", "net", "port", "portrange":
		q.typ = p.next()
	case "":
		return nil, p.wrong("it ends where an address or a port is expected")
	default:
		switch {
		case qualified:
			q.typ = "host" // "src 10.0.0.1"
		case p.last != nil && plain(w):
			q = *p.last
		default:
			return p.bare(w)
		}
	}
	if p.end() {
		return nil, p.wrong("something is missing after %s", q.typ)
	}
	n, err := p.value(q, p.next())
	if err == nil {
		p.last = &q
	}
	return n, err
}

// plain says that a word may be a value: pcap's other keywords are none.
func plain(w string) bool {
	_, err := netip.ParseAddr(w)
	_, perr := netip.ParsePrefix(w)
	return err == nil || perr == nil || strings.Trim(w, "0123456789-") == ""
}

// bare is a word that begins nothing that we know.
func (p *parser) bare(w string) (node, error) {
	if plain(w) {
		return nil, p.wrong("say what %s is: host %s, net %s or port %s", w, w, w, w)
	}
	return nil, p.wrong("the word %q is none of %s; for all of tcpdump's language: linkspan capture CONTAINER | tcpdump -r - 'FILTER'", w, known)
}

func (p *parser) value(q qualifiers, w string) (node, error) {
	switch q.typ {
	case "port", "portrange":
		switch q.proto {
		case "", "tcp", "udp", "sctp":
		default:
			return nil, p.wrong("%s has no ports", q.proto)
		}
		from, to, err := p.portsOf(q, w)
		return ports{q.dir, from, to, q.proto}, err
	}
	switch q.proto {
	case "", "ip", "ip6", "arp":
	default:
		return nil, p.wrong("%s %s: write %s and %s %s", q.proto, q.typ, q.proto, q.typ, w)
	}
	prefixes, err := p.addrsOf(q, w)
	if err != nil {
		return nil, err
	}
	var n node = all(false)
	for i, prefix := range prefixes {
		a := addrs{q.dir, prefix, q.proto}
		if i == 0 {
			n = a
		} else {
			n = or{n, a}
		}
	}
	return n, nil
}

func (p *parser) portsOf(q qualifiers, w string) (from, to uint16, err error) {
	a, b, ranged := strings.Cut(w, "-")
	if ranged && q.typ == "port" {
		return 0, 0, p.wrong("%s is a range: write portrange %s", w, w)
	}
	if from, err = p.port(q, a); err != nil || !ranged {
		return from, from, err
	}
	if to, err = p.port(q, b); err == nil && to < from {
		err = p.wrong("the range %s goes down", w)
	}
	return from, to, err
}

func (p *parser) port(q qualifiers, w string) (uint16, error) {
	n, err := strconv.ParseUint(w, 10, 16)
	if err == nil {
		return uint16(n), nil
	}
	protos := withPorts(q.proto)
	for _, proto := range protos {
		if n, err := net.LookupPort(proto, w); err == nil && w != "" && strings.Trim(w, "0123456789") != "" {
			return uint16(n), nil
		}
	}
	return 0, p.wrong("%q is no port: 0 to 65535, or a name of /etc/services", w)
}

func (p *parser) addrsOf(q qualifiers, w string) (out []netip.Prefix, err error) {
	if a, err := netip.ParseAddr(w); err == nil {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	} else if q.typ == "net" {
		n, err := netip.ParsePrefix(w)
		if err != nil {
			return nil, p.wrong("%q is no subnet: write it like 172.17.0.0/16 or fd00::/64", w)
		}
		if n != n.Masked() {
			return nil, p.wrong("%s has bits beyond its length: write %s", n, n.Masked())
		}
		out = append(out, n)
	} else if strings.Contains(w, "/") {
		return nil, p.wrong("%s is a subnet: write net %s", w, w)
	} else if p.names == nil {
		return nil, p.wrong("%q is no address", w)
	} else {
		all, err := p.names(w)
		if err != nil {
			return nil, p.wrong("host %s: %w", w, err)
		}
		for _, a := range all {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for _, n := range out {
		if q.proto == "ip6" == n.Addr().Is4() && q.proto != "" {
			return nil, p.wrong("%s is no address of %s", n.Addr(), q.proto)
		}
	}
	return out, nil
}
