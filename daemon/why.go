package daemon

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
	"linkspan/diagnose/why"
)

// why answers `linkspan why`.
func (e *engine) why(ctx context.Context, from, to string, probe bool) (*why.Answer, error) {
	return why.Ask(ctx, e.world(), from, to, why.Options{Drops: e.hearing.drops})
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
