package images

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Options say where and what to build. The zero value builds everything into
// the default cache, silently.
type Options struct {
	// Cache is the folder; "" means LINKSPAN_IMAGE_CACHE or DefaultCache.
	Cache string
	// Log hears what is done. nil means nothing is said.
	Log *slog.Logger
	// Force builds again what is cached.
	Force bool
}

// Set is all images, built and ready to be served.
type Set struct {
	Key    string
	Images []Built
	// Made names what this call had to build; empty when all was cached.
	Made  []string
	cache cache
}

// Build makes what is missing in the cache and returns the whole catalogue.
// It needs root, mmdebstrap, docker-registry, unshare(1) and, for what is
// missing, the machine's package archive and the go command. Several processes
// may call it at once: one builds, the others wait for it. With everything
// cached it takes milliseconds and needs none of them.
func Build(ctx context.Context, o Options) (*Set, error) {
	return build(ctx, o, Layers(), Images())
}

func build(ctx context.Context, o Options, layers []Layer, images []Image) (*Set, error) {
	c, err := openCache(o.Cache)
	if err != nil {
		return nil, err
	}
	b := &builder{cache: c, log: o.Log, layers: layers, infos: map[string]layerInfo{}}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.keys, err = keys(layers); err != nil {
		return nil, err
	}
	if _, err := catalogueKey(images, b.keys); err != nil {
		return nil, err
	}
	unlock, err := c.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := c.sweep(); err != nil {
		return nil, err
	}
	if o.Force {
		for _, k := range b.keys {
			os.RemoveAll(c.path("layers", k))
			os.RemoveAll(c.path("base", k))
		}
	}
	if err := b.all(ctx); err != nil {
		return nil, err
	}
	set, err := b.assemble(images)
	if err != nil {
		return nil, err
	}
	if !exists(c.path("registry", set.Key, "images.json")) {
		if err := b.fill(ctx, set); err != nil {
			return nil, err
		}
		b.made = append(b.made, "registry")
		// Each outcome has a storage of its own; a registry that still serves
		// an old one has been running for a week by then.
		used := map[string]bool{set.Key: true}
		for _, k := range b.keys {
			used[k] = true
		}
		if _, err := c.prune(7*24*time.Hour, used); err != nil {
			b.log.Warn("test image: old parts of the cache stay", "cache", c.dir, "error", err)
		}
	}
	set.Made = b.made
	now := time.Now()
	os.Chtimes(c.path("registry", set.Key), now, now)
	return set, nil
}

type builder struct {
	cache  cache
	log    *slog.Logger
	layers []Layer
	keys   map[string]string
	arch   archive
	fetch  sync.Mutex // apt's download folder and its cache have one user

	mu    sync.Mutex
	infos map[string]layerInfo
	made  []string
}

// all builds the missing layers: the base first, then two at a time.
func (b *builder) all(ctx context.Context) error {
	var missing []Layer
	for _, l := range b.layers {
		if info, ok := b.cache.layer(b.keys[l.Name]); ok {
			b.infos[l.Name] = info
		} else {
			missing = append(missing, l)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if os.Getuid() != 0 {
		return errors.New("building the test images needs root: mounts, chroot and device files")
	}
	if err := havePrograms("mmdebstrap", "apt-get", "dpkg-deb", "unshare"); err != nil {
		return err
	}
	var err error
	if b.arch, err = hostArchive(ctx); err != nil {
		return err
	}
	// Packages are resolved against a base even where the layer does not
	// stand on it.
	for _, l := range b.layers {
		if l.Base {
			if err := b.base(ctx, l); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	slots := make(chan struct{}, 2)
	failures := make([]error, len(missing))
	for i, l := range missing {
		if l.Base {
			continue
		}
		group.Add(1)
		slots <- struct{}{}
		go func() {
			defer group.Done()
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			if failures[i] = b.layer(ctx, l); failures[i] != nil {
				cancel()
			}
		}()
	}
	group.Wait()
	return errors.Join(failures...)
}

// base makes the base folder and its layer, whichever is missing.
func (b *builder) base(ctx context.Context, l Layer) error {
	k := b.keys[l.Name]
	if !exists(b.cache.path("base", k)) {
		started := time.Now()
		work, err := os.MkdirTemp(b.cache.path("tmp"), "base-")
		if err != nil {
			return err
		}
		if err := makeBase(ctx, l, b.arch, work); err != nil {
			return err
		}
		if err := b.cache.publish(work, "base", k); err != nil {
			return err
		}
		b.say("folder", l.Name, started)
	}
	if _, ok := b.cache.layer(k); ok {
		return nil
	}
	started := time.Now()
	work, err := os.MkdirTemp(b.cache.path("tmp"), "pack-")
	if err != nil {
		return err
	}
	return b.pack(l, b.cache.path("base", k, "rootfs"), work, started)
}

func (b *builder) layer(ctx context.Context, l Layer) error {
	started := time.Now()
	work, err := os.MkdirTemp(b.cache.path("tmp"), l.Name+"-")
	if err != nil {
		return err
	}
	debs, err := b.packages(ctx, l, work)
	if err != nil {
		return fmt.Errorf("layer %s: %w", l.Name, err)
	}
	lower := ""
	if l.From != "" {
		lower = b.cache.path("base", b.keys[l.From], "rootfs")
	}
	if err := makeLayer(ctx, l, lower, work, debs); err != nil {
		return err
	}
	return b.pack(l, filepath.Join(work, "upper"), work, started)
}

// pack writes the layer's tar and gives both files their place in the cache.
func (b *builder) pack(l Layer, folder, work string, started time.Time) error {
	out := filepath.Join(work, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	info, err := packLayer(folder, filepath.Join(out, "layer.tar.gz"))
	if err != nil {
		return fmt.Errorf("layer %s: %w", l.Name, err)
	}
	info.Name = l.Name
	if err := writeJSON(filepath.Join(out, "layer.json"), info); err != nil {
		return err
	}
	if err := b.cache.publish(out, "layers", b.keys[l.Name]); err != nil {
		return err
	}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	b.mu.Lock()
	b.infos[l.Name] = info
	b.mu.Unlock()
	b.say("layer", l.Name, started)
	return nil
}

func (b *builder) say(kind, name string, started time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if kind == "layer" {
		b.made = append(b.made, name)
	}
	b.log.Info("test image: made "+kind, "name", name, "bytes", b.infos[name].Size, "took", time.Since(started).Round(10*time.Millisecond))
}

func (b *builder) assemble(images []Image) (*Set, error) {
	set := &Set{cache: b.cache}
	for _, image := range images {
		var layers []builtLayer
		for _, name := range image.Layers {
			layers = append(layers, builtLayer{b.infos[name], b.cache.layerTar(b.keys[name])})
		}
		built, err := assemble(image, layers)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", image.Name, err)
		}
		set.Images = append(set.Images, built)
	}
	set.Key = setKey(set.Images)
	return set, nil
}

// fill pushes all images into a new registry storage.
func (b *builder) fill(ctx context.Context, set *Set) error {
	started := time.Now()
	work, err := os.MkdirTemp(b.cache.path("tmp"), "registry-")
	if err != nil {
		return err
	}
	storage := filepath.Join(work, "storage")
	if err := os.Mkdir(storage, 0o755); err != nil {
		return err
	}
	r, err := startRegistry(ctx, storage, "", "127.0.0.1:0", false)
	if err != nil {
		return err
	}
	defer r.close()
	p := &pusher{base: r.url(), client: &http.Client{Transport: &http.Transport{}}, home: map[string]string{}}
	for _, image := range set.Images {
		if err := p.push(ctx, image); err != nil {
			return fmt.Errorf("image %s into the registry: %w", image.Name, err)
		}
	}
	p.client.CloseIdleConnections()
	if err := r.close(); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(work, "images.json"), set.Images); err != nil {
		return err
	}
	if err := b.cache.publish(work, "registry", set.Key); err != nil {
		return err
	}
	b.say("registry", set.Key, started)
	return nil
}
