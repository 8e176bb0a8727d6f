package images

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// chrootScript: $1 root folder, $2 script text, $3… the shell in it.
const chrootScript = `
root=$1 text=$2; shift 2
mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/run"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
ln -s /proc/self/fd "$root/dev/fd"
mkdir -m 1777 "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
printf '%s\n' "$text" > "$root/tmp/setup.sh"
cd /
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
	chroot "$root" "$@" -eu /tmp/setup.sh
umount "$root/run" "$root/tmp" "$root/dev" "$root/proc"
`

// layerScript: $1 lower folder, $2 work folder, $3 files to copy over, $4 script
// text or "", $5 number of tar options, the options, the shell's words up to
// "--", then the packages.
//
// The packages are unpacked and not installed: the entrypoints are ours, and
// Debian's maintainer scripts start services, ask questions and take most of
// the time. --keep-directory-symlink keeps /bin → usr/bin where an archive has
// a folder of that name.
const layerScript = `
lower=$1 work=$2 files=$3 text=$4 n=$5; shift 5
mkdir -p "$work/upper" "$work/work" "$work/root"
chmod 755 "$work/upper"
o=lowerdir=$lower,upperdir=$work/upper,workdir=$work/work,redirect_dir=off,metacopy=off,index=off
mount -t overlay overlay -o "$o,volatile" "$work/root" 2>/dev/null || mount -t overlay overlay -o "$o" "$work/root"
options=; while [ "$n" -gt 0 ]; do options="$options $1"; shift; n=$((n-1)); done
shell=; while [ "$1" != -- ]; do shell="$shell $1"; shift; done; shift
set -f
for deb in "$@"; do
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/root" --numeric-owner --keep-directory-symlink $options
done
set +f
[ ! -d "$files" ] || cp -a --no-preserve=ownership "$files/." "$work/root/"
[ ! -x "$work/root/sbin/ldconfig" ] || chroot "$work/root" /sbin/ldconfig
if [ -n "$text" ]; then
	(set -- "$work/root" "$text" $shell
` + chrootScript + `)
fi
rm -rf "$work/root/usr/share/doc"
umount "$work/root"
rmdir "$work/root"
`

// makeLayer leaves the layer's files in work/upper, in overlayfs's language.
func makeLayer(ctx context.Context, l Layer, lower, work string, debs []string) error {
	if lower == "" {
		lower = filepath.Join(work, "empty")
		if err := os.MkdirAll(lower, 0o755); err != nil {
			return err
		}
	}
	files := filepath.Join(work, "files")
	if err := copyFiles("files/"+l.Name+"/root", files); err != nil {
		return err
	}
	for target, source := range l.Programs {
		if err := compile(ctx, source, filepath.Join(files, target), work); err != nil {
			return err
		}
	}
	setup, _ := tree.ReadFile("files/" + l.Name + "/setup.sh")
	var options []string
	for _, pattern := range excluded {
		options = append(options, "--exclude=./"+pattern)
	}
	shell := l.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh"}
	}
	args := []string{lower, work, files, string(setup), fmt.Sprint(len(options))}
	args = append(args, options...)
	args = append(args, shell...)
	args = append(append(args, "--"), debs...)
	if err := confined(ctx, layerScript, args...); err != nil {
		return fmt.Errorf("layer %s: %w", l.Name, err)
	}
	return nil
}

// copyFiles writes embedded files out. Embedding loses modes: what starts as a
// script is executable.
func copyFiles(from, to string) error {
	if _, err := fs.Stat(tree, from); err != nil {
		return os.MkdirAll(to, 0o755)
	}
	return fs.WalkDir(tree, from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(name, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := tree.ReadFile(name)
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if bytes.HasPrefix(data, []byte("#!")) {
			mode = 0o755
		}
		return os.WriteFile(target, data, mode)
	})
}

// compile builds one of our static programs from its embedded source, as a
// module of its own that needs nothing but the standard library.
func compile(ctx context.Context, source, target, work string) error {
	dir := filepath.Join(work, "src", source)
	if err := copyFiles(source, dir); err != nil {
		return err
	}
	tests, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return err
	}
	for _, name := range tests {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+source+"\n\ngo 1.24\n"), 0o644); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	goTool, err := findGo()
	if err != nil {
		return err
	}
	return tool(ctx, "env", "--chdir="+dir, "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOTOOLCHAIN=local",
		goTool, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", target, ".")
}
