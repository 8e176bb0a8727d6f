package ruleset

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// WriteText writes the ruleset as `nft list ruleset` does, without counters' values;
// legacy tables as iptables-save writes rules.
func (r *Ruleset) WriteText(to io.Writer) error {
	var b strings.Builder
	for _, t := range r.Tables {
		t.write(&b)
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func (t *Table) write(b *strings.Builder) {
	if t.Legacy {
		fmt.Fprintf(b, "# iptables-legacy (%s)\n*%s\n", t.Family, t.Name)
		for _, c := range t.Chains {
			policy := "-"
			if c.Hook != "" {
				policy = strings.ToUpper(c.Policy)
			}
			fmt.Fprintf(b, ":%s %s\n", c.Name, policy)
		}
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				fmt.Fprintln(b, r.Text())
			}
		}
		fmt.Fprintln(b, "COMMIT")
		return
	}
	fmt.Fprintf(b, "table %s %s {\n", t.Family, t.Name)
	if t.Dormant {
		fmt.Fprintln(b, "\tflags dormant")
	}
	for _, s := range t.Sets {
		if !s.Anonymous {
			s.write(b)
		}
	}
	for _, c := range t.Chains {
		fmt.Fprintf(b, "\tchain %s {\n", c.Name)
		if c.Hook != "" {
			device := ""
			if len(c.Devices) > 0 {
				device = fmt.Sprintf(" devices = { %s }", strings.Join(c.Devices, ", "))
			}
			fmt.Fprintf(b, "\t\ttype %s hook %s%s priority %d; policy %s;\n", c.Type, c.Hook, device, c.Priority, c.Policy)
		}
		for _, r := range c.Rules {
			fmt.Fprintf(b, "\t\t%s\n", r.Text())
		}
		fmt.Fprintln(b, "\t}")
	}
	fmt.Fprintln(b, "}")
}

func (s *Set) write(b *strings.Builder) {
	what := "set"
	if s.Map {
		what = "map"
	}
	fmt.Fprintf(b, "\t%s %s {\n", what, s.Name)
	if t := typeText(s.KeyType); t != "" {
		data := ""
		switch {
		case s.Objects:
			data = " : object"
		case s.Map && s.DataType == 0xffffff00:
			data = " : verdict"
		case s.Map:
			data = " : " + typeText(s.DataType)
		}
		fmt.Fprintf(b, "\t\ttype %s%s\n", t, data)
	}
	var flags []string
	for _, f := range []struct {
		is   bool
		name string
	}{{s.Constant, "constant"}, {s.Interval, "interval"}, {s.HasTime, "timeout"}, {s.Dynamic, "dynamic"}} {
		if f.is {
			flags = append(flags, f.name)
		}
	}
	if len(flags) > 0 {
		fmt.Fprintf(b, "\t\tflags %s\n", strings.Join(flags, ","))
	}
	if len(s.Elements) > 0 {
		fmt.Fprintf(b, "\t\telements = { %s }\n", strings.Join(s.Texts(nil), ",\n\t\t\t     "))
	}
	fmt.Fprintln(b, "\t}")
}

// typeNames are nft's words for types.
var typeNames = map[kind]string{kindNFProto: "nf_proto", kindInteger: "integer", kindString: "string", kindIP: "ipv4_addr", kindIP6: "ipv6_addr", kindEther: "ether_addr",
	kindEthType: "ether_type", kindProto: "inet_proto", kindPort: "inet_service", kindICMP: "icmp_type", kindTCPFlags: "tcp_flag", kindTime: "time", kindMark: "mark",
	kindIfIndex: "iface_index", kindUID: "uid", kindGID: "gid", kindCTState: "ct_state", kindCTDir: "ct_dir", kindCTStatus: "ct_status", kindICMP6: "icmpv6_type",
	kindPktType: "pkt_type", kindGroup: "devgroup", kindDSCP: "dscp", kindFIBType: "fib_addrtype", kindBool: "boolean", kindIfName: "ifname"}

// typeText is "" where the kernel does not know: iptables-nft's sets have no type.
func typeText(t uint32) string {
	var all []string
	for _, k := range kind(t).parts() {
		n := typeNames[k]
		if n == "" {
			return ""
		}
		all = append(all, n)
	}
	return strings.Join(all, " . ")
}

// MarshalJSON writes the rule's text.
func (r *Rule) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Handle  uint64 `json:"handle,omitempty"`
		Text    string `json:"text"`
		Comment string `json:"comment,omitempty"`
	}{r.Handle, r.Text(), r.Comment})
}
