package flows

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/reading"
)

// Drop is one packet that a rule of ours dropped, with the names of that moment.
type Drop struct {
	Time time.Time `json:"time"`
	// Rule is the short name of who dropped it (dataplane.DropRules), Why and Cure what
	// it says of itself, Owner for whom it exists.
	Rule  string `json:"rule"`
	Why   string `json:"why"`
	Cure  string `json:"cure,omitempty"`
	Owner string `json:"owner"`
	Proto string `json:"proto"`
	From  End    `json:"from"`
	To    End    `json:"to"`
	// In and Out are the host's interfaces, Port the bridge's port that it came in by,
	// where the kernel says so.
	In       string `json:"in,omitempty"`
	Out      string `json:"out,omitempty"`
	Port     string `json:"bridge_port,omitempty"`
	TCPFlags string `json:"tcp_flags,omitempty"`
	ICMPType string `json:"icmp_type,omitempty"`
	Length   int    `json:"length"`
}

// dropOf joins what a rule logged with names.
func dropOf(l reading.Logged, from, to End) Drop {
	d := Drop{Time: l.Time, Rule: strings.TrimPrefix(l.Prefix, dataplane.DropPrefix), Proto: l.Packet.Proto, From: from, To: to,
		In: l.In, Out: l.Out, Port: l.PhysIn, TCPFlags: l.Packet.TCPFlags, ICMPType: l.Packet.ICMPType, Length: l.Packet.Length}
	if r, ok := dataplane.DropRuleOf(l.Prefix); ok {
		d.Why, d.Cure = r.Why, r.Cure
	}
	d.Owner = d.owner()
	return d
}

// owner is the network whose wish the rule stands for: who is closed against the
// outside or another network is the one that the packet goes to, who is kept inside is
// the one that it comes from.
func (d Drop) owner() string {
	order := []End{d.To, d.From}
	switch d.Rule {
	case "internal", "internal-host", "loopback":
		order = []End{d.From, d.To}
	case "not-forwarded":
		return string(dataplane.OwnerHost)
	}
	for _, e := range order {
		if e.Network != "" && e.Kind != KindHost {
			return dataplane.Owner{Kind: dataplane.OwnerNetwork, Name: e.Network}.String()
		}
	}
	return string(dataplane.OwnerHost)
}

// Match picks drops; zero fields match everything.
type Match struct {
	// Container (id) and Network (name) are of either end.
	Container, Network string
	// From and To are addresses of one packet; Port is the one that was asked for.
	From, To netip.Addr
	Proto    string
	Port     uint16
	Rule     string
	// Since is a moment; what is older is left out.
	Since time.Time
}

func (m Match) fits(d Drop) bool {
	return (m.Container == "" || d.From.ContainerID == m.Container || d.To.ContainerID == m.Container) &&
		(m.Network == "" || d.From.Network == m.Network || d.To.Network == m.Network) &&
		(!m.From.IsValid() || d.From.Addr == m.From) && (!m.To.IsValid() || d.To.Addr == m.To) &&
		(m.Proto == "" || d.Proto == m.Proto || m.Proto == "icmp" && d.Proto == "icmpv6") && (m.Port == 0 || d.To.Port == m.Port) &&
		(m.Rule == "" || d.Rule == m.Rule) && (m.Since.IsZero() || !d.Time.Before(m.Since))
}

// What is what the packet was: "tcp SYN", "icmp echo-request".
func (d Drop) What() string { return strings.TrimSpace(d.Proto + " " + d.TCPFlags + d.ICMPType) }

// Where is the way that it was on: "wan0 -> docker0".
func (d Drop) Where() string {
	in, out := d.In, d.Out
	if d.Port != "" && d.Port != in {
		in += "(" + d.Port + ")"
	}
	switch {
	case in == "":
		in = "host"
	case out == "":
		out = "host"
	}
	return in + " -> " + out
}

func (d Drop) line() string {
	return strings.Join([]string{clock(d.Time), d.Rule, d.What(), d.From.String(), d.To.String(), d.Where(), d.Owner}, "\t")
}

func clock(t time.Time) string { return t.Local().Format("01-02 15:04:05.000") }

// List is the answer of `linkspan drops`.
type List struct {
	Drops []Drop `json:"drops"`
	// PeopleGroup is the NFLOG group that is free for people's tools.
	PeopleGroup uint16 `json:"people_group,omitempty"`
	// Notes are what a person should know of the list.
	Notes []string `json:"notes,omitempty"`
}

// WriteText prints a table, the oldest first, and what its rules mean.
func (l *List) WriteText(w io.Writer) error {
	var b strings.Builder
	if len(l.Drops) > 0 {
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "TIME\tRULE\tWHAT\tFROM\tTO\tWAY\tOWNER")
		for _, d := range l.Drops {
			fmt.Fprintln(t, d.line())
		}
		t.Flush()
		b.WriteString("\n")
	}
	told := map[string]bool{}
	for _, d := range l.Drops {
		if !told[d.Rule] && d.Why != "" {
			b.WriteString(explain(d))
		}
		told[d.Rule] = true
	}
	for _, n := range l.Notes {
		fmt.Fprintf(&b, "%s\n", n)
	}
	if l.PeopleGroup != 0 {
		fmt.Fprintf(&b, "as they come, without the daemon: tcpdump -ni nflog:%d\n", l.PeopleGroup)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func explain(d Drop) string {
	s := d.Rule + ": " + d.Why
	if d.Cure != "" {
		s += "; " + d.Cure
	}
	return s + "\n"
}

// WriteLine prints one drop as it comes; told remembers which rules were explained.
func (d Drop) WriteLine(w io.Writer, told map[string]bool) error {
	s := strings.Join([]string{clock(d.Time), "dropped by " + d.Rule, d.What(), d.From.String() + " -> " + d.To.String(), "(" + d.Where() + ", " + d.Owner + ")"}, "  ") + "\n"
	if !told[d.Rule] && d.Why != "" {
		s += "  " + explain(d)
	}
	told[d.Rule] = true
	_, err := io.WriteString(w, s)
	return err
}
