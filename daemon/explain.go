package daemon

import (
	"context"
	"maps"
	"slices"

	"linkspan/api/admin"
	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/live"
	"linkspan/diagnose"
	"linkspan/diagnose/explain"
)

// doors are those of the explanations: one line for each.
func (e *engine) doors() []admin.Door {
	return slices.Concat(admin.Flows(e.flowSource()), admin.Drops(e.hearing.drops), admin.Capture(e.captureSource()), admin.MeshDoors(e.mesh), []admin.Door{
		admin.Doctor(e.examine),
		admin.Explain(e.explainSources),
		admin.GC(e.collect),
		admin.Graph(e.world),
		admin.Rules(e.world, e.kernel),
		admin.Why(e.why),
		admin.Exposed(e.exposed),
	})
}

// world is what explanations look at.
func (e *engine) world() *diagnose.World {
	return &diagnose.World{Declared: declared{e}, Kernel: live.New(e.log), Table: e.table()}
}

// meshWorld is the same with the mesh's other hosts, where an explanation goes on to them.
func (e *engine) meshWorld() *diagnose.World {
	w := e.world()
	w.Mesh = others{e}
	return w
}

// explainSources are what `linkspan explain` tells things from.
func (e *engine) explainSources() explain.Sources {
	return explain.Sources{World: e.meshWorld(), Observer: e.kernel, Keeper: e.keeper}
}

// declared shows the engine to those who explain.
type declared struct{ e *engine }

func (d declared) Networks() []*cnm.Network  { return d.e.network.Networks() }
func (d declared) Sandboxes() []*cnm.Sandbox { return d.e.network.Sandboxes() }

func (d declared) Objects(ctx context.Context) ([]dataplane.Object, error) {
	return d.e.network.Declared(ctx)
}

func (d declared) Containers() []diagnose.Container {
	var all []diagnose.Container
	for _, c := range d.e.containers.List() {
		one := diagnose.Container{ID: c.ID, Name: c.Name, Image: c.ImageRef, State: string(c.State.Phase), ExitCode: c.State.ExitCode,
			PID: c.State.Pid, Mode: string(c.HostConfig.NetworkMode), Networks: slices.Sorted(maps.Keys(c.Networks)),
			Published: published(c.HostConfig.PortBindings)}
		if c.State.Health != nil {
			one.Health = string(c.State.Health.Status)
		}
		for p := range c.Config.ExposedPorts {
			one.Exposed = append(one.Exposed, p.String())
		}
		slices.Sort(one.Exposed)
		all = append(all, one)
	}
	return all
}
