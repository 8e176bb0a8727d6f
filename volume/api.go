// Package volume is named volumes: folders under the data root that outlive
// containers. The only driver is "local".
package volume

import (
	"context"
	"time"
)

// AnonymousLabel marks a volume that was made for one container, without a
// name of its own. Docker uses the same key.
const AnonymousLabel = "com.docker.volume.anonymous"

// Driver is the one volume driver there is.
const Driver = "local"

// Volume is one volume. Values handed out are copies.
type Volume struct {
	Name    string            `json:"name"`
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	// Mountpoint is the folder on the host that holds the files.
	Mountpoint string `json:"-"`
}

// Anonymous says that the volume was made for one container only.
func (v *Volume) Anonymous() bool { _, ok := v.Labels[AnonymousLabel]; return ok }

// CreateRequest asks for a volume. Without a name it is an anonymous one, of 64
// hex digits. Driver is "local" or empty.
type CreateRequest struct {
	Name, Driver    string
	Labels, Options map[string]string
}

// Users tells which containers use a volume; the container engine is it.
type Users interface {
	// VolumeUsers returns the full ids of the containers that mount the volume,
	// running or not.
	VolumeUsers(name string) []string
}

// Service is what the rest of the engine asks of volumes. Errors carry cnm
// classes and Docker's words. Safe for concurrent use.
type Service interface {
	// Create makes a volume, or returns the one that has the name already.
	Create(ctx context.Context, r CreateRequest) (*Volume, error)
	Get(ctx context.Context, name string) (*Volume, error)
	// List returns all volumes, by name.
	List(ctx context.Context) ([]*Volume, error)
	// Remove deletes a volume and its files. A volume in use is a conflict, also
	// with force; force only forgives that there is no such volume.
	Remove(ctx context.Context, name string, force bool) error
	// Prune removes the unused volumes that match; it returns their names and the
	// bytes that they held.
	Prune(ctx context.Context, match func(*Volume) bool) (removed []string, reclaimed int64, err error)

	// Hold keeps a volume from being removed until release is called: a container
	// under creation holds its volumes until it is in the store, where Users
	// finds it. who is named to those who try.
	Hold(name, who string) (release func())
	// CopyUp fills the volume with what the image has at the mount's place,
	// unless it holds something already, and gives its folder the owner and mode
	// that the place has. src is that place on the host, resolved inside the
	// image's root; if it does not exist or is no folder, nothing is done. A copy
	// that a crash cut short is done again by the next CopyUp.
	CopyUp(ctx context.Context, src, name string) error
	// Mount mounts a volume that is a mount, unless it is mounted; others are there
	// always. Unmount takes it away, unless used says, while nobody can mount it,
	// that somebody needs it.
	Mount(ctx context.Context, name string) error
	Unmount(ctx context.Context, name string, used func() bool) error
	// Size is the bytes that the volume's files take on disk.
	Size(ctx context.Context, name string) (int64, error)
}
