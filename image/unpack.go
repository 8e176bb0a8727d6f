package image

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// unpack makes the snapshots of all layers, bottom first. ready, if not nil, is
// waited for before a layer is needed. ctx carries a lease.
func (s *Store) unpack(ctx context.Context, p *parsed, progress Progress, ready func(layer int) error) error {
	for i, chain := range p.chains {
		have, err := s.holdSnapshot(ctx, chain)
		if err != nil {
			return err
		}
		if ready != nil {
			if err := ready(i); err != nil {
				return err
			}
		}
		if have {
			continue
		}
		l := p.manifest.Layers[i]
		id := short(l.Digest.String())
		progress(id, "Extracting", 0, l.Size)
		if err := s.extract(ctx, p, i); err != nil {
			return fmt.Errorf("layer %s: %w", id, err)
		}
		progress(id, "Extracting", l.Size, l.Size)
		progress(id, "Pull complete", 0, 0)
	}
	return s.linkSnapshot(ctx, p)
}

// linkSnapshot labels the config so that garbage collection keeps the topmost
// snapshot, and with it its parents, as long as the image has a name.
func (s *Store) linkSnapshot(ctx context.Context, p *parsed) error {
	if p.top() == "" {
		return nil
	}
	label := "containerd.io/gc.ref.snapshot." + s.cfg.Snapshotter
	info := content.Info{Digest: p.manifest.Config.Digest, Labels: map[string]string{label: p.top()}}
	_, err := s.content().Update(ctx, info, "labels."+label)
	return err
}

// extract makes the snapshot of layer i on those below.
func (s *Store) extract(ctx context.Context, p *parsed, i int) error {
	chain, parent := p.chains[i], ""
	if i > 0 {
		parent = p.chains[i-1]
	}
	// Two pulls that share a layer extract it once.
	unlock, err := s.applying.lock(ctx, chain)
	if err != nil {
		return err
	}
	defer unlock()
	if have, err := s.holdSnapshot(ctx, chain); have || err != nil {
		return err
	}
	// The label makes containerd answer AlreadyExists if a snapshot of that
	// chain id can be had without work.
	opt := snapshots.WithLabels(map[string]string{snapshots.LabelSnapshotRef: chain})
	key, mounts, err := s.prepareExtract(ctx, chain, parent, opt)
	if err != nil || key == "" {
		return err
	}
	if err := s.apply(ctx, p, i, key, mounts, opt); err != nil {
		rm, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if rmErr := s.snapshotter().Remove(rm, key); rmErr != nil && !errdefs.IsNotFound(rmErr) {
			s.log.Warn("a half-made snapshot stays until its lease ends", "snapshot", key, "error", rmErr)
		}
		if errdefs.IsAlreadyExists(err) { // by another client of containerd
			return nil
		}
		return err
	}
	return nil
}

// prepareExtract makes the snapshot that a layer is extracted into; the key is
// empty if the layer is there by now.
func (s *Store) prepareExtract(ctx context.Context, chain, parent string, opt snapshots.Opt) (key string, mounts []mount.Mount, err error) {
	for range 3 {
		key = fmt.Sprintf(snapshots.UnpackKeyFormat, rand.Text()[:10], chain)
		s.cfg.Hook("snapshot.extract.before")
		mounts, err = s.newSnapshot(ctx, key, parent, opt)
		s.cfg.Hook("snapshot.extract.after")
		if !errdefs.IsAlreadyExists(err) {
			return key, mounts, err
		}
		if have, statErr := s.holdSnapshot(ctx, chain); have || statErr != nil {
			return "", nil, statErr
		}
	}
	return "", nil, err
}

// newSnapshot makes a snapshot to write into. A containerd that was killed between making
// the folder of one and writing down its number gives that number out again, and fails on
// the folder from then on. Its Cleanup takes such folders away; containerd before 1.7 does
// not offer it, and a person has to.
func (s *Store) newSnapshot(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	mounts, err := s.snapshotter().Prepare(ctx, key, parent, opts...)
	folder, inTheWay := folderInTheWay(err)
	if !inTheWay {
		return mounts, err
	}
	if c, ok := s.snapshotter().(snapshots.Cleaner); !ok || c.Cleanup(ctx) != nil {
		return nil, cnm.Conflict("containerd was killed while it made a snapshot, and left the folder %s, which is no snapshot's: remove it (rm -r %s), and try again", folder, folder)
	}
	s.log.Warn("a folder of containerd's that was no snapshot's is gone", "folder", folder)
	return s.snapshotter().Prepare(ctx, key, parent, opts...)
}

// folderInTheWay reads "failed to rename: rename A B: file exists" (containerd's overlayfs
// and native snapshotters).
func folderInTheWay(err error) (folder string, is bool) {
	if err == nil {
		return "", false
	}
	_, names, renames := strings.Cut(err.Error(), "failed to rename: rename ")
	names, _, exists := strings.Cut(names, ": "+unix.EEXIST.Error())
	_, folder, two := strings.Cut(names, " ")
	return folder, renames && exists && two
}

func (s *Store) apply(ctx context.Context, p *parsed, i int, key string, mounts []mount.Mount, opt snapshots.Opt) error {
	layer, want := p.manifest.Layers[i], p.diffs[i]
	got, err := s.cfg.Client.DiffService().Apply(ctx, layer, mounts)
	if err != nil {
		return err
	}
	if got.Digest != want {
		return cnm.Invalid("its content has the digest %s, but the image's config says %s", got.Digest, want)
	}
	s.cfg.Hook("snapshot.commit.before")
	err = s.snapshotter().Commit(ctx, p.chains[i], key, opt)
	s.cfg.Hook("snapshot.commit.after")
	if err != nil {
		return err
	}
	// Verified by the apply: who looks for the uncompressed layer finds this blob.
	info := content.Info{Digest: layer.Digest, Labels: map[string]string{labels.LabelUncompressed: want.String()}}
	_, err = s.content().Update(ctx, info, "labels."+labels.LabelUncompressed)
	return err
}

// Prepare implements [Service]. Under a lease in ctx, the snapshot belongs to
// that lease; without one it is a root of its own and stays until it is removed.
func (s *Store) Prepare(ctx context.Context, img *Image, key string) error {
	ctx = s.ns(ctx)
	what := "image " + short(img.ID)
	chains := chainsOf(img.Config.RootFS.DiffIDs)
	top := ""
	if len(chains) > 0 {
		top = chains[len(chains)-1]
	}
	// No image is removed between the look and the new snapshot, which then keeps
	// the layers by itself.
	s.names.RLock()
	defer s.names.RUnlock()
	if info, err := s.snapshotter().Stat(ctx, key); err == nil {
		if info.Parent != top {
			return cnm.Conflict("%s: there is another snapshot %s, of other layers", what, key)
		}
		return nil
	} else if !errdefs.IsNotFound(err) {
		return classify(err, "%s", what)
	}
	opts := []snapshots.Opt{}
	if _, ok := leases.FromContext(ctx); !ok {
		opts = append(opts, snapshots.WithLabels(map[string]string{"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339)}))
	}
	if top != "" {
		if _, err := s.snapshotter().Stat(ctx, top); errdefs.IsNotFound(err) {
			if err := s.unpackAgain(ctx, img); err != nil {
				return err
			}
		} else if err != nil {
			return classify(err, "%s", what)
		}
	}
	s.cfg.Hook("snapshot.prepare.before")
	_, err := s.newSnapshot(ctx, key, top, opts...)
	s.cfg.Hook("snapshot.prepare.after")
	if errdefs.IsAlreadyExists(err) {
		return nil // the same caller, twice
	}
	return classify(err, "a file system of %s", what)
}

// unpackAgain makes snapshots that are gone, from the layers as they were pulled.
func (s *Store) unpackAgain(ctx context.Context, img *Image) error {
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	list := ofID(all, img.ID)
	if len(list) == 0 {
		return noSuchImage(img.ID)
	}
	leased, done, err := s.lease(ctx, "unpack")
	if err != nil {
		return err
	}
	defer done()
	s.log.Info("unpacking an image whose snapshots are not there", "image", list[0].name)
	if err := s.unpack(leased, list[0].parsed, serial(nil), nil); err != nil {
		return classify(err, "unpacking image %s again; if its layers are gone, pull it", familiar(list[0].name))
	}
	return nil
}
