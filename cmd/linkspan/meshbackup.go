package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
	"linkspan/mesh/host"
)

func meshBackup(args []string) int {
	q := &question{name: "mesh backup", usage: "FILE", least: 1, most: 1, about: `Write all that the mesh has in common into a file: hosts, networks, addresses, and the key
of its certificate authority. Who has the file can let hosts in: keep it as you keep keys.
It is said at a member. A file that is there already is not overwritten.
Exit code: 0 the file is whole; 1 there is none, and why.`,
		example: `
  # linkspan mesh backup /root/mesh-2026-11-21.lsm
  mesh 7d2f6b1c is in /root/mesh-2026-11-21.lsm: 3 hosts, revision 1841, 212 kB
`}
	q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
		b, err := backupTo(ctx, c, args[0])
		return answered(q)(b, err)
	}
	return q.run(args)
}

// backupTo writes the archive beside its place, and moves it there when it is whole.
func backupTo(ctx context.Context, c admin.Client, path string) (_ *host.Archive, err error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s is there already, and is not overwritten: name another file, or remove it first", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer f.Close()
	r, err := c.MeshBackup(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := io.Copy(f, r); err != nil {
		return nil, fmt.Errorf("the backup broke off, and %s is not there: %w", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	a, err := host.Inspect(f)
	if err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	// A link, not a rename: it fails when the name was taken meanwhile.
	if err := os.Link(f.Name(), path); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("%s is there already, and is not overwritten: name another file, or remove it first", path)
		}
		return nil, err
	}
	a.File = path
	return a, nil
}

func meshRestore(args []string) int {
	var r host.RestoreRequest
	q := &question{name: "mesh restore", usage: "FILE", least: 1, most: 1, about: `Make the mesh again from a file that linkspan mesh backup wrote, when the majority of its
members is lost. This host becomes its only member; hosts that are left find it again where
it has the address of a member of before, and else join again. It is refused while the mesh
runs.
Exit code: 0 it runs; 1 it does not, and why.`,
		flags: func(f *pflag.FlagSet) {
			f.StringVar(&r.Listen, "listen", "", "This host's own address on the wire that the hosts share (default: as it was)")
			f.StringVar(&r.Name, "name", "", "This host's name in the mesh (default: as it was, or the host name)")
		},
		example: `
  # linkspan mesh restore /root/mesh-2026-11-21.lsm --listen 10.0.0.1
  this host is host1 at 10.0.0.1 in mesh 7d2f6b1c, and runs etcd for it
    ! promote two more hosts: linkspan mesh promote HOST
`}
	q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
		f, err := os.Open(args[0])
		if err != nil {
			return 1, err
		}
		defer f.Close()
		if _, err := host.Inspect(f); err != nil {
			return 1, fmt.Errorf("%s: %w", args[0], err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return 1, err
		}
		return answered(q)(c.MeshRestore(ctx, r, f))
	}
	return q.run(args)
}
