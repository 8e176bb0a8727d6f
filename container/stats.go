package container

import (
	"context"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/container/usage"
)

// Stats implements Service. PreCPUStats are the caller's: they are of the sample
// before, which only a stream knows.
func (e *Engine) Stats(ctx context.Context, ref string) (*apicontainer.StatsResponse, error) {
	en, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	c := en.load()
	out := &apicontainer.StatsResponse{ID: c.ID, Name: "/" + c.Name, OSType: "linux"}
	if !c.State.Phase.running() {
		return out, nil
	}
	m, err := e.ctd.metrics(ctx, c.ID)
	switch {
	case errdefs.IsNotFound(err):
		// It ended just now.
		return out, nil
	case err != nil:
		return nil, err
	}
	// The moment of the sample; the host's clock ticks are read as near to it as
	// can be, since a client divides the one by the other.
	out.Read = time.Now().UTC()
	host, err := usage.ReadHost()
	if err != nil {
		return nil, err
	}
	if err := usage.Fill(out, m, host); err != nil {
		return nil, err
	}
	if !c.HostConfig.NetworkMode.IsHost() {
		e.networkStats(ctx, c, out)
	}
	return out, nil
}

// networkStats adds the counters of the container's interfaces. That they cannot
// be read is no reason to hide the rest.
func (e *Engine) networkStats(ctx context.Context, c *Container, out *apicontainer.StatsResponse) {
	list, err := e.cfg.Network.Stats(ctx, c.ID)
	if err != nil {
		e.log.Warn("a container's network counters cannot be read", "container", c.Name, "error", err)
		return
	}
	for _, i := range list {
		if out.Networks == nil {
			out.Networks = map[string]apicontainer.NetworkStats{}
		}
		out.Networks[i.Name] = apicontainer.NetworkStats{
			RxBytes: i.RxBytes, RxPackets: i.RxPackets, RxErrors: i.RxErrors, RxDropped: i.RxDropped,
			TxBytes: i.TxBytes, TxPackets: i.TxPackets, TxErrors: i.TxErrors, TxDropped: i.TxDropped,
		}
	}
}

// metrics are a task's, as the shim reads them from the container's cgroup.
func (r *runtime) metrics(ctx context.Context, id string) (v any, err error) {
	err = r.call(ctx, "task.metrics", quick, func(ctx context.Context) error {
		a, err := r.client.TaskService().Metrics(ctx, &tasks.MetricsRequest{Filters: []string{"id==" + id}})
		if err != nil {
			return err
		}
		for _, m := range a.GetMetrics() {
			if m.ID == id && m.Data != nil {
				v, err = typeurl.UnmarshalAny(m.Data)
				return err
			}
		}
		return errdefs.ErrNotFound
	})
	return v, err
}
