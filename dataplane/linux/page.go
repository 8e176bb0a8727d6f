package linux

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
	"linkspan/dataplane/nfnl"
)

// The page carries its version as the empty set page_<Hash>, and, in a map of
// our own, a checksum of each chain and set as the kernel had them right after the
// load: so the next process sees whether someone edited the page. The map is empty
// while the page is loaded and filled after; a kill in between reads as an edit, and
// the page is loaded again.
const (
	marker    = "page_"
	checksums = "checksums"
)

// nftTimeout bounds one run of the nft program (a few milliseconds).
const nftTimeout = 30 * time.Second

func (a *applier) page(o dataplane.Page, del bool) error {
	k := a.k
	k.tableMu.Lock()
	defer k.tableMu.Unlock()
	t := tableRef{o.Family, o.Table}
	if del {
		err := k.nft.commit([]nfMsg{{typ: unix.NFT_MSG_DELTABLE, fam: t.fam(), attrs: nfnl.Text(nil, unix.NFTA_TABLE_NAME, t.name)}})
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return err
	}
	have, err := k.readPage(t)
	if err != nil {
		return err
	}
	if have != nil && have.Spec() == o.Spec() {
		return nil
	}
	return k.loadPage(a.ctx, o)
}

// loadPage puts the text into the kernel in one transaction and keeps the
// elements: first by replacing the rules only; where the new page changes the type
// of a set or the hook of a chain, which the kernel refuses, by replacing the table
// with its elements.
func (k *Kernel) loadPage(ctx context.Context, o dataplane.Page) error {
	t := tableRef{o.Family, o.Table}
	sets, err := k.nft.sets(t)
	if err != nil {
		return err
	}
	chains, err := k.nft.chains(t)
	if err != nil {
		return err
	}
	if err = k.loadText(ctx, o, sets, chains); err != nil {
		if k.loadLess(ctx, o, err, sets, chains) != nil {
			return err
		}
	}
	k.point("between load and seal table " + o.Family + " " + o.Table)
	if len(sets)+len(chains) == 0 {
		defer k.back.gap()
	}
	return k.sealPage(t)
}

// loadLess loads what a kernel takes that refused the whole page: a firewall that does not
// tell, or knows of no other hosts, is better than none.
func (k *Kernel) loadLess(ctx context.Context, o dataplane.Page, why error, sets map[string]setInfo, chains map[string]chainInfo) error {
	const (
		mute   = "drops are not told: this kernel cannot log them (modprobe nfnetlink_log, CONFIG_NETFILTER_NETLINK_LOG)"
		single = "networks cannot span hosts: the firewall page needs Linux 5.6 and nft 0.9.4 for that"
	)
	for _, less := range []struct {
		page dataplane.Page
		says []string
	}{{o.Quiet(), []string{mute}}, {o.Single(), []string{single}}, {o.Single().Quiet(), []string{mute, single}}} {
		if less.page.Text == o.Text || k.loadText(ctx, less.page, sets, chains) != nil {
			continue
		}
		for _, s := range less.says {
			k.log.Warn(s, "table", o.Table, "err", why)
		}
		return nil
	}
	return why
}

func (k *Kernel) loadText(ctx context.Context, o dataplane.Page, sets map[string]setInfo, chains map[string]chainInfo) error {
	err := k.runNFT(ctx, k.softScript(o, sets, chains))
	if err != nil && len(sets)+len(chains) > 0 {
		k.log.Info("page cannot be changed in place, replacing its table", "table", o.Table, "err", err)
		err = k.replaceTable(ctx, o, sets)
	}
	return err
}

// declared finds the sets, maps and chains of a page's text.
var declared = regexp.MustCompile(`(?m)^\s*(set|map|chain)\s+(\S+)\s*\{`)

func (k *Kernel) softScript(o dataplane.Page, sets map[string]setInfo, chains map[string]chainInfo) string {
	ref := o.Family + " " + o.Table
	keep := map[string]bool{"set " + marker + o.Hash: true, "map " + checksums: true}
	for _, m := range declared.FindAllStringSubmatch(o.Text, -1) {
		keep[m[1]+" "+m[2]] = true
	}
	var b strings.Builder
	fmt.Fprintf(&b, "add table %s\nflush table %s\n", ref, ref)
	// Chains go before the sets that their rules used; the flush took the rules.
	for _, name := range slices.Sorted(maps.Keys(chains)) {
		if !keep["chain "+name] {
			fmt.Fprintf(&b, "delete chain %s %s\n", ref, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		if s := sets[name]; s.flags&unix.NFT_SET_ANONYMOUS == 0 && !keep["set "+name] && !keep["map "+name] {
			fmt.Fprintf(&b, "delete %s %s %s\n", s.noun(), ref, name)
		}
	}
	fmt.Fprintf(&b, "add map %s %s { type mark : mark; }\nflush map %s %s\n", ref, checksums, ref, checksums)
	fmt.Fprintf(&b, "add set %s %s%s { type mark; }\n%s\n", ref, marker, o.Hash, o.Text)
	return b.String()
}

func (s setInfo) noun() string {
	if s.flags&unix.NFT_SET_MAP != 0 {
		return "map"
	}
	return "set"
}

// replaceTable deletes the table and loads the page with the old elements in the
// same transaction; elements that no longer fit are told and left out (the next
// comparison adds what is still wanted).
func (k *Kernel) replaceTable(ctx context.Context, o dataplane.Page, sets map[string]setInfo) error {
	t := tableRef{o.Family, o.Table}
	ref := o.Family + " " + o.Table
	base := "delete table " + ref + "\n" + k.softScript(o, nil, nil)
	var keep strings.Builder
	for _, m := range declared.FindAllStringSubmatch(o.Text, -1) {
		s, ok := sets[m[2]]
		if !ok || m[1] == "chain" || !s.holdsElements() {
			continue
		}
		els, err := k.setObjects(t, s)
		if err != nil {
			return err
		}
		for _, e := range els {
			create, _ := e.Commands()
			keep.WriteString(strings.TrimPrefix(create[0], "nft ") + "\n")
		}
	}
	err := k.runNFT(ctx, base+keep.String())
	if err != nil && keep.Len() > 0 {
		k.log.Warn("elements do not fit the new page, loading it without", "table", o.Table, "err", err)
		err = k.runNFT(ctx, base)
	}
	return err
}

// runNFT gives a script to the nft program, in the kernel's namespace: the text
// is for people, and nft is its parser. One script is one transaction.
func (k *Kernel) runNFT(ctx context.Context, script string) error {
	ctx, cancel := context.WithTimeout(ctx, nftTimeout)
	defer cancel()
	// A child is forked by the thread that asks, and inherits its namespace.
	return k.inHost(func() error {
		cmd := exec.CommandContext(ctx, k.cfg.NFT, "-f", "-")
		var said bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &said, &said
		err := cmd.Start()
		if err == nil {
			k.runs.add(cmd.Process.Pid) // before its news is read: it takes a while to start
			if err = cmd.Wait(); err != nil {
				k.runs.forget(cmd.Process.Pid)
			}
		}
		out := said.Bytes()
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("the nft program is missing (Debian: apt install nftables): %w", err)
		}
		if err != nil {
			return fmt.Errorf("nft refuses the page: %s: %w", words(string(out)), err)
		}
		return nil
	})
}

// shape computes a checksum of each chain and each set.
func (k *Kernel) shape(t tableRef) (map[string]uint32, []string, error) {
	chains, err := k.nft.chains(t)
	if err != nil {
		return nil, nil, err
	}
	rules, err := k.nft.rules(t)
	if err != nil {
		return nil, nil, err
	}
	sets, err := k.nft.sets(t)
	if err != nil {
		return nil, nil, err
	}
	sums := map[string]uint32{}
	var markers []string
	for name, c := range chains {
		h := sha256.New()
		fmt.Fprintf(h, "%+v %d", c, len(rules[name]))
		for _, r := range rules[name] {
			fmt.Fprintf(h, "\n%d ", len(r))
			h.Write(r)
		}
		sums["chain "+name] = binary.BigEndian.Uint32(h.Sum(nil))
	}
	for name, s := range sets {
		switch {
		case strings.HasPrefix(name, marker):
			markers = append(markers, strings.TrimPrefix(name, marker))
		case name != checksums && s.flags&unix.NFT_SET_ANONYMOUS == 0:
			sums[s.noun()+" "+name] = sum32(s.describe())
		}
	}
	return sums, markers, nil
}

// sealPage records the shape of a page just loaded.
func (k *Kernel) sealPage(t tableRef) error {
	sums, _, err := k.shape(t)
	if err != nil {
		return err
	}
	w := elementWriter{}
	for name, sum := range sums {
		e := dataplane.Element{Family: t.family, Table: t.name, Set: checksums, KeyRaw: native32(sum32(name)), Data: native32(sum)}
		if err := w.add(e); err != nil {
			return err
		}
	}
	return k.nft.commit(w.finish())
}

// readPage observes the page: nil when there is no table; its Hash says what
// differs when it is not as it was loaded.
func (k *Kernel) readPage(t tableRef) (*dataplane.Page, error) {
	sums, markers, err := k.shape(t)
	if err != nil {
		return nil, err
	}
	p := &dataplane.Page{Family: t.family, Table: t.name}
	if len(sums)+len(markers) == 0 {
		// An empty table of our name still has to be filled; none is none.
		return nil, nil
	}
	slices.Sort(markers)
	p.Hash = strings.Join(markers, "+")
	sealed, err := k.nft.elements(t, setInfo{name: checksums})
	if err != nil {
		return nil, err
	}
	if diff := shapeDiff(sums, sealed); diff != "" {
		p.Hash += " but " + diff
	}
	return p, nil
}

func shapeDiff(now map[string]uint32, sealed []rawElement) string {
	if len(sealed) == 0 {
		return "not completely loaded"
	}
	was := map[uint32]uint32{}
	for _, e := range sealed {
		if len(e.key) == 4 && len(e.data) == 4 {
			was[binary.NativeEndian.Uint32(e.key)] = binary.NativeEndian.Uint32(e.data)
		}
	}
	var diff []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		key := sum32(name)
		switch sum, known := was[key]; {
		case !known:
			diff = append(diff, name+" added")
		case sum != now[name]:
			diff = append(diff, name+" edited")
		}
		delete(was, key)
	}
	if n := len(was); n > 0 {
		diff = append(diff, fmt.Sprintf("%d chains or sets missing", n))
	}
	return strings.Join(diff, ", ")
}

func sum32(s string) uint32 {
	h := sha256.Sum256([]byte(s))
	return binary.BigEndian.Uint32(h[:])
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
