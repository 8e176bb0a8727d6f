package mounts

import (
	"slices"
	"strings"

	"linkspan/cnm"
)

// FromTmpfs decodes one --tmpfs DEST[:options].
func FromTmpfs(dest, options string) (Point, error) {
	d, err := destination(dest)
	if err != nil {
		return Point{}, err
	}
	var opts []string
	if options != "" {
		opts = strings.Split(options, ",")
	}
	p := Point{Type: Tmpfs, Destination: d, RW: !slices.Contains(opts, "ro")}
	p.Options, err = TmpfsOptions(opts)
	return p, err
}

// flags are mount(8)'s words without a value; what share a subject exclude
// each other, and the last one wins.
var flags = map[string]string{
	"ro": "rw", "rw": "rw", "suid": "suid", "nosuid": "suid", "dev": "dev", "nodev": "dev",
	"exec": "exec", "noexec": "exec", "sync": "sync", "async": "sync", "dirsync": "dirsync",
	"atime": "atime", "noatime": "atime", "diratime": "diratime", "nodiratime": "diratime",
	"relatime": "relatime", "norelatime": "relatime", "strictatime": "strictatime", "nostrictatime": "strictatime",
}

// keys are tmpfs(5)'s with a value.
var keys = []string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}

// TmpfsOptions puts a person's options over Docker's defaults.
func TmpfsOptions(own []string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	all := append([]string{"noexec", "nosuid", "nodev"}, own...)
	// Backwards, so that the last word on a subject is the one kept.
	for _, o := range slices.Backward(all) {
		k, _, valued := strings.Cut(o, "=")
		subject, ok := flags[k]
		if valued {
			subject, ok = k, slices.Contains(keys, k)
		}
		switch {
		case k == "defaults" && !valued:
		case !ok:
			return nil, cnm.Invalid("invalid tmpfs option %q", own)
		case !seen[subject]:
			seen[subject] = true
			out = append(out, o)
		}
	}
	slices.Reverse(out)
	return out, nil
}
