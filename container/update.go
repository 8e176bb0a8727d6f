package container

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/typeurl/v2"
	apicontainer "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"linkspan/cnm"
	"linkspan/container/spec"
)

// Update implements Service. What the kernel refuses is taken back in the record
// too. A crash between the two leaves limits that hold from the next start on.
func (e *Engine) Update(ctx context.Context, ref string, u apicontainer.UpdateConfig) ([]string, error) {
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer en.unlock()
	if c.State.Phase == Removing || c.State.Phase == Dead {
		return nil, cannotUpdate(c, cnm.Conflict("container is marked for removal and cannot be \"update\""))
	}
	hc, err := updated(c.HostConfig, &u)
	if err != nil {
		return nil, err
	}
	if err := e.verifyResources(c.Config, hc); err != nil {
		return nil, err
	}
	if err := apicontainer.ValidateRestartPolicy(hc.RestartPolicy); err != nil {
		return nil, cnm.Invalid("%w", err)
	}
	warnings := e.fitResources(&hc.Resources)
	ctx = lasting(ctx)
	old := c.HostConfig
	if c, err = e.change(ctx, en, "updated", func(c *Container) { c.HostConfig = hc }); err != nil {
		return nil, err
	}
	if c.State.Phase.running() {
		if err := e.limitLive(ctx, c, old.Memory); err != nil {
			e.observe(en, "update-refused", func(c *Container) { c.HostConfig = old })
			return nil, cannotUpdate(c, err)
		}
	}
	e.publish(c, "update")
	return warnings, nil
}

func cannotUpdate(c *Container, err error) error {
	return fmt.Errorf("Cannot update container %s: %w", c.ID, err) //nolint:staticcheck // Docker's words
}

// updated puts what an update names over a copy of the definition; its rules are
// Docker's (container.UpdateContainer). A zero is "not told".
func updated(old *apicontainer.HostConfig, u *apicontainer.UpdateConfig) (*apicontainer.HostConfig, error) {
	hc := *old
	to, from := &hc.Resources, &u.Resources
	for _, x := range []struct {
		clash     bool
		what, set string
	}{
		{from.NanoCPUs > 0 && to.CPUPeriod > 0, "Nano CPUs", "CPU Period"},
		{from.NanoCPUs > 0 && to.CPUQuota > 0, "Nano CPUs", "CPU Quota"},
		{from.CPUPeriod > 0 && to.NanoCPUs > 0, "CPU Period", "NanoCPUs"},
		{from.CPUQuota > 0 && to.NanoCPUs > 0, "CPU Quota", "NanoCPUs"},
	} {
		if x.clash {
			return nil, cnm.Conflict("Conflicting options: %s cannot be updated as %s has already been set", x.what, x.set)
		}
	}
	set(&to.BlkioWeight, from.BlkioWeight)
	set(&to.CPUShares, from.CPUShares)
	set(&to.NanoCPUs, from.NanoCPUs)
	set(&to.CPUPeriod, from.CPUPeriod)
	set(&to.CPUQuota, from.CPUQuota)
	set(&to.CpusetCpus, from.CpusetCpus)
	set(&to.CpusetMems, from.CpusetMems)
	set(&to.CPURealtimePeriod, from.CPURealtimePeriod)
	set(&to.CPURealtimeRuntime, from.CPURealtimeRuntime)
	set(&to.MemoryReservation, from.MemoryReservation)
	// Docker refuses also where swap has no limit, or where neither had one: the
	// first cannot clash, and the second means what it does at create.
	if from.Memory > 0 && from.MemorySwap == 0 && to.MemorySwap > 0 && from.Memory > to.MemorySwap {
		return nil, cnm.Conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	set(&to.Memory, from.Memory)
	set(&to.MemorySwap, from.MemorySwap)
	if from.PidsLimit != nil {
		n := *from.PidsLimit
		to.PidsLimit = &n
	}
	if p := u.RestartPolicy; p.Name != "" {
		if hc.AutoRemove && !p.IsNone() {
			return nil, cnm.Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		hc.RestartPolicy = p
	}
	return &hc, nil
}

func set[T comparable](to *T, from T) {
	var zero T
	if from != zero {
		*to = from
	}
}

// limitLive has the runtime write the limits into the cgroup of a container that
// runs. had is the memory limit that it had.
func (e *Engine) limitLive(ctx context.Context, c *Container, had int64) error {
	r := &c.HostConfig.Resources
	if e.host.CgroupV2 && r.Memory > 0 && r.Memory != had {
		// There the kernel does not refuse: it would kill (cgroup-v2.rst, memory.max).
		if err := e.fitsMemory(ctx, c, r.Memory); err != nil {
			return err
		}
	}
	err := e.ctd.limit(ctx, c.ID, spec.UpdateResources(r))
	if err == nil || r.Memory == 0 {
		return err
	}
	// memory.limit_in_bytes refuses what is less than the use; the runtime's words
	// for that vary, the numbers do not.
	if s, serr := e.Stats(ctx, c.ID); serr == nil && s.MemoryStats.Usage > uint64(r.Memory) {
		return cnm.Conflict("the new memory limit of %d bytes is below the %d bytes that the container uses: %w", r.Memory, s.MemoryStats.Usage, err)
	}
	return err
}

func (e *Engine) fitsMemory(ctx context.Context, c *Container, limit int64) error {
	s, err := e.Stats(ctx, c.ID)
	if err != nil {
		return err
	}
	m := s.MemoryStats
	// Of the file cache the kernel can free what nobody has mapped.
	held := m.Usage - min(m.Usage, m.Stats["inactive_file"]+m.Stats["active_file"])
	if held > uint64(limit) {
		return cnm.Conflict("the new memory limit of %d bytes is below the %d bytes that the container uses, of which %d cannot be freed: its processes would be killed", limit, m.Usage, held)
	}
	return nil
}

// limit changes the limits of a task.
func (r *runtime) limit(ctx context.Context, id string, res *specs.LinuxResources) error {
	a, err := typeurl.MarshalAnyToProto(res)
	if err != nil {
		return err
	}
	return r.call(ctx, "task.update", quick, func(ctx context.Context) error {
		_, err := r.client.TaskService().Update(ctx, &tasks.UpdateTaskRequest{ContainerID: id, Resources: a})
		return err
	})
}
