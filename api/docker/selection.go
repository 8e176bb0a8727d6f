package docker

import (
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/container"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
)

// selection is which containers a list shows. The rules are dockerd's
// (daemon/list.go).
type selection struct {
	s      *server
	f      filters
	all    bool
	exited map[int]bool
	before *container.Container
	since  *container.Container
	images map[string]bool // ids of the ancestors; nil: any
	links  map[string][]string

	published, exposed []apinetwork.PortRange // nil: any
}

func (s *server) newSelection(c *call, f filters) (*selection, error) {
	if err := f.Only("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation",
		"label", "name", "network", "publish", "since", "status", "volume"); err != nil {
		return nil, err
	}
	sel := &selection{s: s, f: f}
	for _, v := range f.Values("exited") {
		code, err := strconv.Atoi(v)
		if err != nil {
			return nil, badFilter("exited", v)
		}
		if sel.exited == nil {
			sel.exited = map[int]bool{}
		}
		sel.exited[code] = true
	}
	for _, v := range f.Values("status") {
		if err := apicontainer.ValidateContainerState(apicontainer.ContainerState(v)); err != nil {
			return nil, cnm.Invalid("invalid filter 'status=%s': %w", v, err)
		}
		sel.all = true
	}
	for _, v := range f.Values("health") {
		if err := apicontainer.ValidateHealthStatus(apicontainer.HealthStatus(v)); err != nil {
			return nil, cnm.Invalid("invalid filter 'health=%s': %w", v, err)
		}
	}
	if _, err := f.Bool("is-task", false); err != nil {
		return nil, err
	}
	var err error
	if sel.published, err = portRanges(f, "publish"); err != nil {
		return nil, err
	}
	if sel.exposed, err = portRanges(f, "expose"); err != nil {
		return nil, err
	}
	if err := sel.neighbours(); err != nil {
		return nil, err
	}
	sel.ancestors(c)
	return sel, nil
}

// neighbours finds the containers that before and since name; they must exist.
func (sel *selection) neighbours() error {
	for key, to := range map[string]**container.Container{"before": &sel.before, "since": &sel.since} {
		for _, ref := range sel.f.Values(key) {
			ctr, err := sel.s.Containers.Get(ref)
			if err != nil {
				return err
			}
			*to = ctr
		}
	}
	return nil
}

// ancestors resolves images to ids; one that is not there matches nothing.
func (sel *selection) ancestors(c *call) {
	if !sel.f.Has("ancestor") {
		return
	}
	sel.images = map[string]bool{}
	for _, ref := range sel.f.Values("ancestor") {
		img, err := sel.s.Images.Get(c.Context(), ref)
		if err != nil {
			sel.s.log.Warn("the ancestor filter names an image that is not there", "image", ref, "error", err)
			continue
		}
		sel.images[img.ID] = true
	}
}

// wants says whether a container is in the list, ports aside.
func (sel *selection) wants(ctr *container.Container) bool {
	st, f := ctr.State, sel.f
	up := running(st.Phase)
	switch {
	case !up && !sel.all:
		return false
	case !sel.named(ctr):
		return false
	case !f.Match("id", ctr.ID):
		return false
	case !f.Labels("label", ctr.Config.Labels):
		return false
	case !f.Match("status", string(st.Phase)):
		return false
	case !f.Exact("health", string(health(st))):
		return false
	case sel.exited != nil && (up || st.StartedAt.IsZero() || !sel.exited[st.ExitCode]):
		return false
	case sel.images != nil && !sel.images[ctr.ImageID]:
		return false
	case sel.before != nil && !ctr.Created.Before(sel.before.Created):
		return false
	case sel.since != nil && !ctr.Created.After(sel.since.Created):
		return false
	}
	if task, _ := f.Bool("is-task", false); task {
		return false // nothing here is a task of a swarm
	}
	return sel.volume(ctr) && sel.network(ctr)
}

// named says whether the container's name, or one that a link gave it, is wanted.
func (sel *selection) named(ctr *container.Container) bool {
	if sel.f.Match("name", ctr.Name) || sel.f.Match("name", "/"+ctr.Name) {
		return true
	}
	return slices.ContainsFunc(sel.links[ctr.ID], func(n string) bool {
		return sel.f.Match("name", n) || sel.f.Match("name", n[1:])
	})
}

// health is a container's word for the filter of that name.
func health(st container.State) apicontainer.HealthStatus {
	if st.Health == nil || st.Health.Status == "" {
		return apicontainer.NoHealthcheck
	}
	return st.Health.Status
}

func (sel *selection) volume(ctr *container.Container) bool {
	return !sel.f.Has("volume") || slices.ContainsFunc(ctr.Mounts, func(m container.Mount) bool {
		return sel.f.Exact("volume", m.Destination) || m.Name != "" && sel.f.Exact("volume", m.Name) ||
			m.Type == "bind" && sel.f.Exact("volume", m.Source)
	})
}

func (sel *selection) network(ctr *container.Container) bool {
	if !sel.f.Has("network") {
		return true
	}
	if ctr.HostConfig.NetworkMode.IsContainer() {
		return false
	}
	for name := range sel.s.wishes(ctr) {
		if sel.f.Exact("network", name) {
			return true
		}
		if n, err := sel.s.Network.Network(name); err == nil && sel.f.Exact("network", n.ID) {
			return true
		}
	}
	return false
}

// ports says whether one of the ports is published or exposed as the filters
// ask. Either will do.
func (sel *selection) ports(list []portSummary) bool {
	if sel.published == nil && sel.exposed == nil {
		return true
	}
	for _, p := range list {
		if p.PublicPort != 0 && within(sel.published, p.PublicPort, p.Type) || within(sel.exposed, p.PrivatePort, p.Type) {
			return true
		}
	}
	return false
}

func within(ranges []apinetwork.PortRange, port uint16, proto string) bool {
	return slices.ContainsFunc(ranges, func(r apinetwork.PortRange) bool {
		return string(r.Proto()) == proto && r.Start() <= port && port <= r.End()
	})
}

// portRanges reads the values of publish and expose: "8080", "8080/udp" or
// "8000-8080/tcp"; nil if the key is absent.
func portRanges(f filters, key string) ([]apinetwork.PortRange, error) {
	var ranges []apinetwork.PortRange
	for _, v := range f.Values(key) {
		if strings.Contains(v, ":") {
			return nil, cnm.Invalid("filter for '%s' should not contain ':': %s", key, v)
		}
		r, err := apinetwork.ParsePortRange(v)
		if err != nil {
			return nil, cnm.Invalid("error while looking up for %s %s: %w", key, v, err)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}
