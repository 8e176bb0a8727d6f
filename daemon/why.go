package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/live"
	"linkspan/diagnose/why"
)

// why answers `linkspan why`.
func (e *engine) why(ctx context.Context, from, to string, probe bool) (*why.Answer, error) {
	o := why.Options{Drops: e.hearing.drops, Hosts: neighbours{e}}
	if probe {
		o.Probe = prober{live.New(e.log)}
	}
	return why.Ask(ctx, e.meshWorld(), from, to, o)
}

// exposed answers `linkspan exposed`.
func (e *engine) exposed(ctx context.Context) (*why.Exposed, error) {
	return why.Expose(ctx, e.world(), why.Options{})
}

// prober sends the one packet of --probe.
type prober struct{ kernel *live.Kernel }

func (p prober) Probe(ctx context.Context, q why.ProbeQuestion) (a why.ProbeAnswer, err error) {
	// Older kernels than 5.12 keep the table of a probe that was killed.
	for _, ns := range append([]string{"", q.NS}, q.Also...) {
		if _, err := p.kernel.SweepProbes(ctx, ns); err != nil {
			return a, err
		}
	}
	r, err := p.kernel.TracePacket(ctx, live.Probe{NS: q.NS, Src: q.Src, Dst: q.Dst, Proto: q.Proto, Also: q.Also})
	if err != nil {
		return a, err
	}
	a = why.ProbeAnswer{Heard: r.Heard, Answered: r.Answered, Refused: r.Refused}
	if r.Answered || r.Refused {
		a.Heard += fmt.Sprintf(" after %.1f ms", float64(r.Took.Microseconds())/1000)
	}
	for _, t := range r.Traces {
		for _, h := range t.Trace.Hits {
			if h.Table == dataplane.RedirectTable {
				continue // it looks at every packet, and matters to the resolver's only
			}
			a.Trace = append(a.Trace, h.String())
		}
	}
	return a, nil
}

// published are the ports that a container's definition publishes.
func published(bindings apinetwork.PortMap) (all []cnm.PublishedPort) {
	for p, list := range bindings {
		for _, b := range list {
			first, last, ranged := strings.Cut(b.HostPort, "-")
			from, _ := strconv.ParseUint(first, 10, 16) // 0: chosen at the start
			to := from
			if ranged {
				to, _ = strconv.ParseUint(last, 10, 16)
			}
			all = append(all, cnm.PublishedPort{Proto: string(p.Proto()), HostIP: b.HostIP, HostPort: uint16(from), HostPortEnd: uint16(max(from, to)), Port: p.Num()})
		}
	}
	slices.SortFunc(all, func(a, b cnm.PublishedPort) int {
		return cmp.Or(cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.Proto, b.Proto), a.HostIP.Compare(b.HostIP))
	})
	return all
}
