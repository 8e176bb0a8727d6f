package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// excluded is what no container reads: three quarters of the files of a small
// package.
var excluded = []string{
	"usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*", "usr/share/lintian/*",
	"usr/share/bug/*", "usr/share/bash-completion/*", "usr/share/gcc/*", "usr/share/gdb/*",
	"usr/share/zoneinfo/right/*", "usr/share/zoneinfo/posix/*", "usr/share/vim/*", "usr/share/apport/*",
	"lib/systemd/*", "usr/lib/systemd/*", "etc/init.d/*", "etc/logrotate.d/*", "etc/cron.*/*", "usr/share/icons/*",
	"usr/share/applications/*", "usr/share/pixmaps/*", "usr/include/*",
}

// baseScript: $1 folder to make, $2 suite, $3 sources file, $4… mmdebstrap options.
//
// A volatile overlay (kernel 5.10, overlayfs.rst "Volatile mount") swallows
// dpkg's fsync calls; without it the same works, slower.
const baseScript = `
root=$1 suite=$2 sources=$3; shift 3
mkdir -p "$root.d/upper" "$root.d/work" "$root.d/empty" "$root.d/root"
o=lowerdir=$root.d/empty,upperdir=$root.d/upper,workdir=$root.d/work
if mount -t overlay overlay -o "$o,volatile" "$root.d/root" 2>/dev/null || mount -t overlay overlay -o "$o" "$root.d/root"; then
	mmdebstrap "$@" "$suite" "$root.d/root" "$sources"
	umount "$root.d/root"
	mv "$root.d/upper" "$root"
else
	mmdebstrap "$@" "$suite" "$root.d/root" "$sources"
	mv "$root.d/root" "$root"
fi
rm -rf "$root.d"
chmod 755 "$root"
`

// makeBase builds the base under work: rootfs/ and lists/. The lists stay
// beside it, so that every layer is resolved against the state of the archive
// that the base came from.
func makeBase(ctx context.Context, l Layer, arch archive, work string) error {
	sources := filepath.Join(work, "sources.list")
	if err := os.WriteFile(sources, []byte(strings.Join(arch.Sources, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	options := []string{
		"--variant=minbase", "--mode=root", "--format=directory", "--quiet",
		// usrmerge, else pulled in to move /bin to /usr/bin, brings all of perl.
		"--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
		"--include=" + strings.Join(append([]string{"usr-is-merged"}, l.Packages...), ","),
		"--skip=cleanup/apt/lists",
		`--aptopt=APT::Install-Recommends "false"`,
		`--aptopt=Acquire::Languages "none"`,
		`--aptopt=Acquire::Retries "3"`,
		"--dpkgopt=force-unsafe-io",
	}
	for _, o := range arch.Options {
		options = append(options, "--aptopt="+o)
	}
	for _, pattern := range excluded {
		options = append(options, "--dpkgopt=path-exclude=/"+pattern)
	}
	root := filepath.Join(work, "rootfs")
	if err := confined(ctx, baseScript, append([]string{root, arch.Suite, sources}, options...)...); err != nil {
		return fmt.Errorf("base of the test images: %w", err)
	}
	if err := os.Rename(filepath.Join(root, "var/lib/apt/lists"), filepath.Join(work, "lists")); err != nil {
		return err
	}
	setup, err := tree.ReadFile("files/" + l.Name + "/setup.sh")
	if err != nil {
		return err
	}
	if err := confined(ctx, chrootScript, root, string(setup), "/bin/sh"); err != nil {
		return fmt.Errorf("base of the test images: setup.sh: %w", err)
	}
	// The nodes that mmdebstrap made: a runtime mounts its own /dev.
	dev, err := filepath.Glob(filepath.Join(root, "dev/*"))
	if err != nil {
		return err
	}
	for _, name := range dev {
		if err := os.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}
