package container

import (
	"context"
	"strconv"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"linkspan/container/spec"
)

// instanceLabel marks what a daemon made in its containerd namespace.
const instanceLabel = "linkspan.instance"

// createContainer declares a container to containerd, before its snapshot is
// made: the record is what keeps the snapshot from the garbage collector. Its
// specification comes with each start.
func (r *runtime) createContainer(ctx context.Context, id, instance, image, runtime, binary string) error {
	blank, err := typeurl.MarshalAnyToProto(&specs.Spec{Version: spec.Version})
	if err != nil {
		return err
	}
	c := containers.Container{
		ID: id, Labels: map[string]string{instanceLabel: instance}, Image: image, Spec: blank,
		Snapshotter: r.snapshotter, SnapshotKey: id,
		Runtime: containers.RuntimeInfo{Name: runtime},
	}
	if binary != "" {
		if c.Runtime.Options, err = typeurl.MarshalAnyToProto(&options.Options{BinaryName: binary}); err != nil {
			return err
		}
	}
	return r.call(ctx, "container.create", quick, func(ctx context.Context) error {
		_, err := r.client.ContainerService().Create(ctx, c)
		return err
	})
}

func (r *runtime) setSpec(ctx context.Context, id string, s *specs.Spec) error {
	a, err := typeurl.MarshalAnyToProto(s)
	if err != nil {
		return err
	}
	return r.call(ctx, "container.update", quick, func(ctx context.Context) error {
		_, err := r.client.ContainerService().Update(ctx, containers.Container{ID: id, Spec: a}, "spec")
		return err
	})
}

func (r *runtime) deleteContainer(ctx context.Context, id string) error {
	return absent(r.call(ctx, "container.delete", quick, func(ctx context.Context) error {
		return r.client.ContainerService().Delete(ctx, id)
	}))
}

// containers lists the ids that an instance made.
func (r *runtime) containers(ctx context.Context, instance string) (ids []string, err error) {
	err = r.call(ctx, "container.list", quick, func(ctx context.Context) error {
		list, err := r.client.ContainerService().List(ctx, `labels."`+instanceLabel+`"==`+strconv.Quote(instance))
		for _, c := range list {
			ids = append(ids, c.ID)
		}
		return err
	})
	return ids, err
}

// rootfs are the mounts that make a container's root file system.
func (r *runtime) rootfs(ctx context.Context, id string) (ms []mount.Mount, err error) {
	err = r.call(ctx, "snapshot.mounts", quick, func(ctx context.Context) error {
		ms, err = r.client.SnapshotService(r.snapshotter).Mounts(ctx, id)
		return err
	})
	return ms, err
}

func (r *runtime) removeSnapshot(ctx context.Context, id string) error {
	return absent(r.call(ctx, "snapshot.remove", quick, func(ctx context.Context) error {
		return r.client.SnapshotService(r.snapshotter).Remove(ctx, id)
	}))
}

// writable lists the writable snapshots that have a container's id for a key.
func (r *runtime) writable(ctx context.Context) (ids []string, err error) {
	err = r.call(ctx, "snapshot.list", quick, func(ctx context.Context) error {
		return r.client.SnapshotService(r.snapshotter).Walk(ctx, func(_ context.Context, i snapshots.Info) error {
			if i.Kind == snapshots.KindActive && isID(i.Name) {
				ids = append(ids, i.Name)
			}
			return nil
		})
	})
	if errdefs.IsNotFound(err) {
		// A namespace that nothing was made in yet.
		return nil, nil
	}
	return ids, err
}

// layerSize is what a container's writable layer takes, in bytes.
func (r *runtime) layerSize(ctx context.Context, id string) (size int64, err error) {
	err = r.call(ctx, "snapshot.usage", slow, func(ctx context.Context) error {
		u, err := r.client.SnapshotService(r.snapshotter).Usage(ctx, id)
		size = u.Size
		return err
	})
	return size, err
}
