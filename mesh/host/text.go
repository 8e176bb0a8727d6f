package host

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteText prints how it went, and the command for the other hosts.
func (j *Joined) WriteText(w io.Writer) error {
	var b strings.Builder
	switch {
	case j.Role == RoleMember && j.Join != nil:
		fmt.Fprintf(&b, "mesh %s is made; this host is %s at %s and runs its etcd\n", j.Mesh, j.Name, j.Addr)
	case j.Role == RoleMember:
		fmt.Fprintf(&b, "this host is %s at %s in mesh %s, and runs etcd for it\n", j.Name, j.Addr, j.Mesh)
	default:
		fmt.Fprintf(&b, "this host is %s at %s in mesh %s\n", j.Name, j.Addr, j.Mesh)
	}
	notes(&b, j.Notes)
	if j.Join != nil {
		b.WriteString("\nAt another host, within " + about(time.Until(j.Join.Expires)) + ":\n\n    " + j.Join.Command + "\n\nOne host can use it once; another: linkspan mesh token create\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteText prints the command that the token is for.
func (j *JoinLine) WriteText(w io.Writer) error {
	_, err := fmt.Fprintf(w, "At another host, within %s:\n\n    %s\n\nOne host can use it once. To take it back: linkspan mesh token revoke %s\n", about(time.Until(j.Expires)), j.Command, j.ID)
	return err
}

// WriteText lists tokens.
func (t *Tokens) WriteText(w io.Writer) error {
	if len(t.Tokens) == 0 {
		_, err := io.WriteString(w, "there is no join token; to make one: linkspan mesh token create\n")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "ID\tMADE ON\tSTATE")
	for _, k := range t.Tokens {
		state := "waits; expires in " + about(time.Until(k.Expires))
		switch {
		case k.State == "revoked":
			state = "revoked"
		case k.UsedBy != "":
			state = "used by " + k.UsedBy
			if !k.Used.IsZero() {
				state += " " + about(time.Since(k.Used)) + " ago"
			}
		case time.Now().After(k.Expires):
			state = "expired " + about(time.Since(k.Expires)) + " ago"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", k.ID, orDash(k.By), state)
	}
	return tw.Flush()
}

// WriteText prints the sentence.
func (d *Done) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(d.Did + "\n")
	notes(&b, d.Notes)
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteText prints who there is, and how they are reached.
func (s *Status) WriteText(w io.Writer) error {
	var b strings.Builder
	if s.Phase == PhaseNone {
		b.WriteString("this host is in no mesh; to make one: linkspan mesh init --listen ADDRESS; to join one: linkspan mesh join HOST:2380 --token TOKEN\n")
		notes(&b, s.Words)
		_, err := io.WriteString(w, b.String())
		return err
	}
	fmt.Fprintf(&b, "mesh %s: %s\n", s.Mesh, counted(len(s.Hosts), "host", "hosts"))
	if me := s.Self; me != nil {
		fmt.Fprintf(&b, "this host: %s at %s", me.Name, me.Addr)
		if me.Dev != "" {
			fmt.Fprintf(&b, " (%s, MTU %d)", me.Dev, me.MTU)
		}
		fmt.Fprintf(&b, ", %s\n", roleWords(me.Role))
		if me.Queue > 0 {
			fmt.Fprintf(&b, "queue: %s to be written for the others\n", waiting(me.Queue))
		}
		if me.Encryption != "" {
			fmt.Fprintf(&b, "encryption: WireGuard, %s\n", me.Encryption)
		}
	}
	if s.Etcd != nil {
		s.Etcd.write(&b)
	}
	if c := s.Certificate; c != nil {
		fmt.Fprintf(&b, "certificate: valid until %s, renewed by itself from %s\n", c.NotAfter.UTC().Format("2006-01-02 15:04"), c.Renews.UTC().Format("2006-01-02"))
	}
	notes(&b, s.Words)
	b.WriteString("\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return s.table(w)
}

func (s *Status) table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "HOST\tADDRESS\tROLE\tALIVE\tNETWORKS\tPATH\tMTU\tRTT\tLOSS")
	for _, h := range s.Hosts {
		alive := "yes"
		switch {
		case h.Self:
			alive = "this host"
		case !h.Alive && !h.Gone.IsZero():
			alive = "no, for " + about(time.Since(h.Gone))
		case !h.Alive:
			alive = "no"
		case s.Etcd != nil && !s.Etcd.Reachable: // nobody tells of deaths
			alive = "not known"
			if !s.Etcd.Since.IsZero() {
				alive = "yes, " + about(time.Since(s.Etcd.Since)) + " ago"
			}
		}
		first := fmt.Sprintf("%s\t%s\t%s\t%s", h.Name, h.Addr, h.Role, alive)
		if len(h.Paths) == 0 {
			fmt.Fprintf(tw, "%s\t-\t-\t-\t-\t-\n", first)
		}
		for _, p := range h.Paths {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", first, orDash(strings.Join(p.For, ", ")), p.way(), p.mtu(), p.rtt(), p.loss())
			first = "\t\t\t"
		}
	}
	return tw.Flush()
}

func (p *PathStatus) way() string {
	s := string(p.Kind)
	if p.Dev != "" {
		s += " (" + p.Dev + ")"
	}
	return s
}

func (p *PathStatus) mtu() string {
	switch {
	case p.PathMTU > 0 && p.MTU > 0 && p.PathMTU < p.MTU:
		return fmt.Sprintf("%d, but only %d passes", p.MTU, p.PathMTU)
	case p.MTU > 0:
		return fmt.Sprint(p.MTU)
	case p.PathMTU > 0:
		return fmt.Sprint(p.PathMTU)
	}
	return "-"
}

func (p *PathStatus) rtt() string {
	switch {
	case p.RTT != nil:
		return p.RTT.Round(10 * time.Microsecond).String()
	case p.Error != "":
		return "no answer"
	}
	return "-"
}

func (p *PathStatus) loss() string {
	if p.Loss == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", *p.Loss*100)
}

func (e *Etcd) write(b *strings.Builder) {
	kind := ""
	if e.Kind == "external" {
		kind = " (external)"
	}
	switch {
	case e.Reachable && e.Voters > 0:
		fmt.Fprintf(b, "etcd%s: healthy, %d of %s answer\n", kind, e.Answering, counted(e.Voters, "member", "members"))
	case e.Reachable:
		fmt.Fprintf(b, "etcd%s: healthy\n", kind)
	default:
		since := ""
		if !e.Since.IsZero() {
			since = " for " + about(time.Since(e.Since))
		}
		fmt.Fprintf(b, "etcd%s: not reachable%s\n", kind, since)
	}
	for _, m := range e.Members {
		name := m.Endpoint
		if m.Name != "" {
			name = m.Name + " (" + m.Endpoint + ")"
		}
		line := "  " + name + ": " + m.State
		if m.Version != "" {
			line += ", etcd " + m.Version
		}
		if m.DBSize > 0 {
			line += ", " + size(m.DBSize)
			if m.Quota > 0 {
				line += " of " + size(m.Quota)
			}
		}
		if m.Alarm != "" {
			line += ", alarm " + m.Alarm
		}
		if m.Error != "" {
			line += ": " + m.Error
		}
		b.WriteString(line + "\n")
	}
}

// WriteText prints what the probes met.
func (c *Checked) WriteText(w io.Writer) error {
	if len(c.Pairs) > 0 {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "FROM\tTO\tPATH\tRTT\tLOSS\tMTU\tRESULT")
		for _, p := range c.Pairs {
			result := "well"
			switch {
			case p.Error != "":
				result = p.Error
			case len(p.Findings) > 0:
				result = strings.Join(p.Findings, "; ")
			}
			mtu := "-"
			if p.MTU > 0 {
				mtu = fmt.Sprint(p.MTU)
			}
			if p.MTU > 0 && p.Expected > p.MTU {
				mtu += fmt.Sprintf(" of %d", p.Expected)
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%.0f %%\t%s\t%s\n", p.From, p.To, p.Kind, rtt(p.RTTNanos), p.Loss*100, mtu, result)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	var b strings.Builder
	if len(c.Pairs) == 0 && len(c.Words) == 0 {
		b.WriteString("there is no other host in the mesh to check the way to\n")
	}
	if len(c.Words) > 0 {
		b.WriteString("\n")
	}
	notes(&b, c.Words)
	_, err := io.WriteString(w, b.String())
	return err
}

func rtt(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.Round(10 * time.Microsecond).String()
}

// Well says that nothing was found.
func (c *Checked) Well() bool {
	for _, p := range c.Pairs {
		if p.Error != "" || len(p.Findings) > 0 {
			return false
		}
	}
	return len(c.Words) == 0
}

func notes(b *strings.Builder, words []string) {
	for _, n := range words {
		b.WriteString("  ! " + n + "\n")
	}
}

func roleWords(r Role) string {
	switch r {
	case RoleMember:
		return "a member: it runs etcd"
	case RoleExternal:
		return "etcd is not the mesh's own"
	}
	return "a client of the members' etcd"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func waiting(n int) string {
	if n == 1 {
		return "1 change waits"
	}
	return fmt.Sprintf("%d changes wait", n)
}

// about is a time as people say it.
func about(d time.Duration) string {
	switch d = d.Abs(); {
	case d < 2*time.Minute:
		return counted(max(int(d.Round(time.Second)/time.Second), 1), "second", "seconds")
	case d < 2*time.Hour:
		return counted(int(d.Round(time.Minute)/time.Minute), "minute", "minutes")
	case d < 48*time.Hour:
		return counted(int(d.Round(time.Hour)/time.Hour), "hour", "hours")
	}
	return counted(int(d.Round(24*time.Hour)/(24*time.Hour)), "day", "days")
}

func size(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d kB", (n+1023)>>10)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
}
