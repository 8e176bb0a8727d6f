// Package images builds the container images that the tests and the demo run,
// out of nothing but Debian packages and a few files of ours, and serves them
// from Debian's docker-registry on loopback.
//
// Nothing is pulled from a public registry: the package archive is the one
// that the machine's own apt already uses. A layer is cached under the hash of
// its recipe, so that a second build does nothing; a build that was interrupted
// leaves no mount (each step lives in its own mount and pid namespace) and no
// half-written layer (each is renamed into place when whole).
package images

// Layer is the recipe of one filesystem layer. All of its fields, the contents
// of the files it names and the recipe of its parent make up its cache key.
type Layer struct {
	// Name is also the folder below files/ that holds what is ours in it:
	// root/ is copied over the packages, setup.sh then runs in a chroot.
	Name string
	// From is the layer below; "" starts from an empty root.
	From string
	// Base marks the one layer that mmdebstrap makes.
	Base bool `json:",omitempty"`
	// Packages are Debian packages. Their dependencies come along, their
	// recommendations do not.
	Packages []string `json:",omitempty"`
	// Without names packages (shell patterns) that the dependencies ask for
	// and the image does not need: perl for maintainer scripts that never
	// run, a JIT, every locale.
	Without []string `json:",omitempty"`
	// Programs puts static Go programs of ours into the layer: path in the
	// image → folder beside this file.
	Programs map[string]string `json:",omitempty"`
	// Shell runs setup.sh inside the chroot. Default: /bin/sh.
	Shell []string `json:",omitempty"`
}

// Image is what a person pulls: layers plus what to run.
type Image struct {
	Name   string
	Tags   []string // the first one is the image's main tag
	Layers []string // bottom first
	Config RunConfig
}

// RunConfig holds the run defaults of an image, in the words of Docker's image
// configuration (image-spec v1.2, "config" object).
type RunConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env"`
	Entrypoint   []string            `json:"Entrypoint"`
	Cmd          []string            `json:"Cmd"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
}

// Repository is the image's name in a registry that stands in for Docker Hub:
// the CLI turns "mysql" into docker.io/library/mysql.
func (i Image) Repository() string { return "library/" + i.Name }

func set(keys ...string) map[string]struct{} {
	m := make(map[string]struct{}, len(keys))
	for _, k := range keys {
		m[k] = struct{}{}
	}
	return m
}
