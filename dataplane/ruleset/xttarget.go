package ruleset

import "net/netip"

// harmless targets change nothing that decides a packet's way.
var harmless = map[string]bool{"LOG": true, "NFLOG": true, "ULOG": true, "AUDIT": true, "CHECKSUM": true, "TCPMSS": true, "TCPOPTSTRIP": true, "CLASSIFY": true,
	"DSCP": true, "TOS": true, "TTL": true, "HL": true, "SET": true, "TRACE": true, "SECMARK": true, "CONNSECMARK": true, "IDLETIMER": true, "RATEEST": true,
	"LED": true, "TEE": true, "HMARK": false}

func (w *walker) xtTarget(x Target) result {
	b := info(x.Info)
	if harmless[x.Name] {
		return match
	}
	switch x.Name {
	case "REJECT":
		return result{reject: true}
	case "MARK":
		w.p.Mark = w.p.Mark&^b.u32(4) ^ b.u32(0)
		return match
	case "CONNMARK":
		return w.connmark(b, x.Rev)
	case "CT", "NOTRACK":
		if (x.Name == "NOTRACK" || b.u16(0)&1 != 0) && !w.tracked {
			w.untracked = true
		}
		return match
	case "NFQUEUE", "QUEUE":
		return give("queue")
	case "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP":
		return w.xtNAT(x.Name, x.Rev, b)
	}
	return result{fatal: "the iptables target \"" + x.Name + "\" is not known"}
}

func (w *walker) connmark(b info, _ uint32) result {
	if w.p.CT == nil || !w.tracked {
		return match
	}
	mark, mask, nfmask := b.u32(0), b.u32(4), b.u32(8)
	switch b.u8(12) {
	case 0:
		w.own().Mark = w.p.CT.Mark&^mask ^ mark
	case 1:
		w.own().Mark = w.p.CT.Mark&^mask ^ w.p.Mark&nfmask
	case 2:
		w.p.Mark = w.p.Mark&^nfmask ^ w.p.CT.Mark&mask
	}
	return match
}

// xtRange reads nf_nat_range, or for revision 0 of IPv4 its older form with a count.
func xtRange(name string, rev uint32, b info, v6 bool) (t translation, flags uint32) {
	at, step := 0, 16
	if rev == 0 && !v6 {
		at, step = 4, 4
	}
	flags = b.u32(at)
	if flags&1 != 0 {
		t.low, t.high = b.addr(at+4, v6), b.addr(at+4+step, v6)
	}
	if flags&2 != 0 {
		t.hasPort, t.port, t.end = true, b.be16(at+4+2*step), b.be16(at+6+2*step)
	}
	t.dest = name == "DNAT" || name == "REDIRECT"
	t.netmap = name == "NETMAP" || flags&(1<<6) != 0
	return t, flags
}

func (w *walker) xtNAT(name string, rev uint32, b info) result {
	t, _ := xtRange(name, rev, b, w.p.Dst.Is6())
	var note, cannot string
	switch name {
	case "MASQUERADE":
		t.low, t.high = netip.Addr{}, netip.Addr{}
		note, cannot = w.masquerade(t)
	case "REDIRECT":
		note, cannot = w.redirect(t)
	case "NETMAP":
		t.dest = w.at == "prerouting" || w.at == "output"
		note = w.setup(t)
	default:
		note = w.setup(t)
	}
	if cannot != "" {
		return result{verdict: &Verdict{Code: "drop"}, note: cannot}
	}
	return result{verdict: &Verdict{Code: "accept"}, note: note}
}
