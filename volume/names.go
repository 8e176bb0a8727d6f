package volume

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"

	"linkspan/cnm"
)

// validName is Docker's rule. It also keeps names from leaving their folder and
// from colliding with our own files there, which begin with a dot.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// maxName is the longest name of a file (NAME_MAX, path_resolution(7)).
const maxName = 255

func (r CreateRequest) check() error {
	if err := checkName(r.Name); err != nil {
		return err
	}
	if err := checkDriver(r.Name, r.Driver); err != nil {
		return err
	}
	return checkOptions(r.Name, r.Options)
}

func checkName(name string) error {
	switch {
	case len(name) == 1:
		return cnm.Invalid("create %s: volume name is too short, names should be at least two alphanumeric characters", name)
	case !validName.MatchString(name):
		return cnm.Invalid(`create %s: %q includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`, name, name)
	case len(name) > maxName-trashLen:
		return cnm.Invalid("create %.20s…: the volume name has %d characters; %d are allowed", name, len(name), maxName-trashLen)
	}
	return nil
}

// anonymousName is 64 random hex digits.
func anonymousName() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// checkOptions holds them against what the local driver knows.
func checkOptions(name string, options map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(options)) {
		switch k {
		case "type", "o", "device":
		case "size":
			return cnm.Unsupported("create %s: not yet: quota size requested: folders of volumes have no size limit; a tmpfs has one (type=tmpfs, device=tmpfs, o=size=…)", name)
		default:
			return cnm.Invalid(`create %s: invalid option: %q (the local driver knows: type, o, device, size)`, name, k)
		}
	}
	if len(options) == 0 {
		return nil
	}
	for _, k := range []string{"type", "device"} {
		if options[k] == "" {
			return cnm.Invalid("create %s: missing required option: %q: a volume that is a mount needs type and device", name, k)
		}
	}
	return nil
}

func checkDriver(name, driver string) error {
	if driver == "" || driver == Driver {
		return nil
	}
	return cnm.NotFound(`create %s: error looking up volume plugin %s: plugin %q not found; the only volume driver here is "local"`, name, driver, driver)
}
