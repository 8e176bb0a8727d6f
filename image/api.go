// Package image is the image service on containerd's store: pull, load, import,
// tag, remove, list, inspect, history.
package image

import (
	"context"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one image of this platform as the engine sees it.
type Image struct {
	ID       string // config digest, "sha256:…"
	RepoTags []string
	Digests  []string // repo@sha256:…
	Created  time.Time
	Size     int64 // bytes, unpacked
	Labels   map[string]string
	Config   ocispec.Image
	// Extra fields of Docker's image config that OCI lacks.
	Healthcheck *Healthcheck
	OnBuild     []string
	Shell       []string
	// Ref is one name in containerd's store that leads to it.
	Ref string
	// LastTagged is when it last got a name.
	LastTagged time.Time
}

// Healthcheck is Docker's image HEALTHCHECK; durations in nanoseconds.
type Healthcheck struct {
	Test                                          []string
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
}

// Progress receives what a long operation has to tell, in the CLI's terms: id
// is the short layer digest ("" for a plain line), status is Docker's wording
// ("Pulling fs layer", "Downloading", "Pull complete", …), current and total
// are bytes (0: no bar).
type Progress func(id, status string, current, total int64)

// Auth is a registry login.
type Auth struct{ Username, Password, IdentityToken, RegistryToken string }

// Deleted is one line of what a removal did: exactly one field is set.
type Deleted struct{ Untagged, Deleted string }

// Users tells which containers use an image; the container engine is it.
type Users interface {
	// ImageUsers returns the containers (full id, and whether it runs) whose image
	// is of that id.
	ImageUsers(imageID string) []User
}

// User is one container that uses an image.
type User struct {
	ContainerID string
	Running     bool
	// Ref is the name it was created with.
	Ref string
}

// Service is what the rest of the engine asks of images. Unknown image:
// cnm.ErrNotFound with Docker's words ("No such image: x:latest").
type Service interface {
	Pull(ctx context.Context, ref, platform string, auth *Auth, p Progress) error
	Load(ctx context.Context, r io.Reader, p Progress) (names []string, err error)
	Import(ctx context.Context, r io.Reader, ref, message string, changes []string, p Progress) (id string, err error)
	Tag(ctx context.Context, ref, target string) error
	Remove(ctx context.Context, ref string, force, prune bool) ([]Deleted, error)
	// Get finds an image by name, tag, digest, id or unique id prefix.
	Get(ctx context.Context, ref string) (*Image, error)
	List(ctx context.Context) ([]*Image, error)
	History(ctx context.Context, ref string) ([]HistoryItem, error)

	// Push uploads an image to its registry; p also gets the manifest's digest as a
	// plain line, as Docker says it.
	Push(ctx context.Context, ref, platform string, auth *Auth, p Progress) error
	// Save writes images as one archive that `docker load` reads, OCI layout and
	// Docker's manifest.json both.
	Save(ctx context.Context, refs []string, platform string, w io.Writer) error
	// Distribution asks the registry about an image without pulling it.
	Distribution(ctx context.Context, ref string, auth *Auth) (*Distribution, error)
	// Layered makes an image of a parent and one more layer (an uncompressed tar):
	// what `docker commit` makes. config is complete; ref may be empty.
	Layered(ctx context.Context, parent *Image, layer io.Reader, config Layered) (id string, err error)

	// Prepare makes a writable snapshot for a container under key (of the default
	// snapshotter), with containerd labels that keep it from garbage collection
	// (the caller holds a lease or names it in a containerd container). It is
	// idempotent.
	Prepare(ctx context.Context, img *Image, key string) error
}

// HistoryItem is one line of `docker history`.
type HistoryItem struct {
	ID        string
	Created   time.Time
	CreatedBy string
	Tags      []string
	Size      int64
	Comment   string
}

// Distribution is what a registry knows of an image.
type Distribution struct {
	Descriptor ocispec.Descriptor
	Platforms  []ocispec.Platform
}

// Layered is the configuration of an image made from a container.
type Layered struct {
	Config      ocispec.ImageConfig
	Healthcheck *Healthcheck
	OnBuild     []string
	Shell       []string
	Author      string
	Comment     string
	CreatedBy   string
	Ref         string // its name; empty: none
}
