package ctdtest

import (
	"context"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// kinds are what Objects lists.
var kinds = map[string]func(ctx context.Context, c *client.Client) ([]string, error){
	"containers": func(ctx context.Context, c *client.Client) (ids []string, err error) {
		all, err := c.ContainerService().List(ctx)
		for _, x := range all {
			ids = append(ids, x.ID)
		}
		return ids, err
	},
	"tasks": func(ctx context.Context, c *client.Client) (ids []string, err error) {
		all, err := c.TaskService().List(ctx, &tasks.ListTasksRequest{})
		for _, x := range all.GetTasks() {
			ids = append(ids, x.ID)
		}
		return ids, err
	},
	// Committed ones are images'.
	"snapshots": func(ctx context.Context, c *client.Client) (ids []string, err error) {
		err = c.SnapshotService("overlayfs").Walk(ctx, func(_ context.Context, x snapshots.Info) error {
			if x.Kind != snapshots.KindCommitted {
				ids = append(ids, x.Name)
			}
			return nil
		})
		return ids, err
	},
	"leases": func(ctx context.Context, c *client.Client) (ids []string, err error) {
		all, err := c.LeasesService().List(ctx)
		for _, x := range all {
			ids = append(ids, x.ID)
		}
		return ids, err
	},
}

// Objects are what a containerd has of one kind, in all of its namespaces, each with its
// namespace: containers, tasks, leases, and the snapshots that are no image's.
func Objects(socket, kind string) (lines []string, err error) {
	c, err := client.New(socket, client.WithTimeout(10*time.Second))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := c.NamespaceService().List(ctx)
	if err != nil {
		return nil, err
	}
	for _, ns := range all {
		ids, err := kinds[kind](namespaces.WithNamespace(ctx, ns), c)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			lines = append(lines, ns+" "+id)
		}
	}
	return lines, nil
}
