package daemon

import (
	"context"

	"linkspan/dataplane"
	"linkspan/dataplane/live"
	"linkspan/dataplane/tap"
	"linkspan/diagnose/capture"
	"linkspan/diagnose/flows"
)

// hearing is what the engine hears of the kernel for those who explain: what our rules
// drop, and, while someone asks, flows and packets.
type hearing struct {
	tap   *tap.Tap
	names *flows.Names
	drops *flows.Drops
}

// openHearing begins to remember drops. It needs the rooms, for names; nothing needs
// it, so that what fails here is told and not an error.
func (e *engine) openHearing(context.Context) error {
	group, people := dataplane.DropGroups(e.table())
	e.hearing.tap = tap.New(tap.Config{FlowOf: live.FlowOf})
	e.hearing.names = flows.NewNames(e.world())
	e.hearing.drops = flows.NewDrops(flows.DropsConfig{Names: e.hearing.names, Tap: e.hearing.tap, Group: group, People: people, Log: e.log})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.hearing.drops.Run(ctx)
	}()
	e.later(func() error { stop(); <-done; return nil })
	return nil
}

// flowSource answers `linkspan flows`.
func (e *engine) flowSource() *flows.Follower {
	return &flows.Follower{World: e.world(), Names: e.hearing.names, Tap: e.hearing.tap, Drops: e.hearing.drops}
}

// captureSource answers `linkspan capture`.
func (e *engine) captureSource() capture.Source {
	return capture.Source{World: e.world(), Names: e.hearing.names, Tap: e.hearing.tap, Version: e.Version}
}
