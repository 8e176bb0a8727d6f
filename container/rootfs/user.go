package rootfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"linkspan/cnm"
)

// accountLimit bounds how much of a container's passwd and group files is read:
// they are the container's to fill.
const accountLimit = 10 << 20

// User resolves NAME|UID[:GROUP|GID] and the groups of --group-add against the
// container's own files. A missing file is an empty one: numbers still work.
func (v *View) User(spec string, groupAdd []string) (specs.User, error) {
	passwd, err := v.account("/etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	group, err := v.account("/etc/group")
	if err != nil {
		return specs.User{}, err
	}
	return resolve(spec, groupAdd, passwd, group)
}

func (v *View) account(path string) ([]byte, error) {
	b, err := v.ReadFile(path, accountLimit)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func resolve(spec string, groupAdd []string, passwd, group []byte) (specs.User, error) {
	u, err := user.GetExecUser(spec, nil, reader(passwd), reader(group))
	if err != nil {
		return specs.User{}, cnm.Invalid("%w", err)
	}
	out := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	// The primary group is among the others too, so that a negative group
	// permission cannot be escaped by dropping it (CVE-2022-36109).
	gids := append([]int{u.Gid}, u.Sgids...)
	if len(groupAdd) > 0 {
		more, err := user.GetAdditionalGroups(groupAdd, reader(group))
		if err != nil {
			return specs.User{}, cnm.Invalid("%w", err)
		}
		slices.Sort(more) // they come in a map's order
		gids = append(gids, more...)
	}
	for _, g := range gids {
		if !slices.Contains(out.AdditionalGids, uint32(g)) {
			out.AdditionalGids = append(out.AdditionalGids, uint32(g))
		}
	}
	return out, nil
}

func reader(b []byte) io.Reader { return bytes.NewReader(b) }
