package host

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"linkspan/cnm"
	"linkspan/mesh"
)

// State is what this host remembers of its mesh: config.json below the mesh folder. The
// folder comes into being by one rename, with all that a restart needs, so that a crash
// leaves this host in a mesh or in none.
type State struct {
	// Format counts the changes that an older Linkspan does not understand.
	Format int   `json:"format"`
	Phase  Phase `json:"phase"`
	// Mesh is its id; empty in an external one that was not found yet.
	Mesh string `json:"mesh"`
	// Host is this host's id, made once, and Name what people call it.
	Host string `json:"host"`
	Name string `json:"name"`
	// Listen is this host's own address on the wire that the hosts share.
	Listen netip.Addr `json:"listen"`
	Role   Role       `json:"role"`
	// Voters is how many hosts shall run etcd, as soon as there are so many.
	Voters int   `json:"voters,omitempty"`
	Ports  Ports `json:"ports"`
	// Endpoints are the members' client addresses, host:port, as last known; Gates those
	// at which hosts join and renew.
	Endpoints []string `json:"endpoints,omitempty"`
	Gates     []string `json:"gates,omitempty"`
	// Cluster is what etcd has to be told of the others by a member that is about to join
	// them; empty of the first, and of one that has joined.
	Cluster string `json:"cluster,omitempty"`
	// Self is this host's record, as it was enrolled; its role is Role above.
	Self mesh.Host `json:"self,omitzero"`
	// CA, Cert and Key are the files for an external etcd.
	CA   string `json:"ca,omitempty"`
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
	// User and PasswordFile are of one that has users.
	User         string `json:"user,omitempty"`
	PasswordFile string `json:"passwordFile,omitempty"`
	// Restored: etcd's data are from a backup, and the records in it are not made fit yet.
	Restored bool `json:"restored,omitempty"`
	// Learner is set from when this host was added to the members until it counts.
	Learner bool `json:"learner,omitempty"`
}

const stateFormat = 1

// Ports are those of a mesh, on every host of it.
type Ports struct {
	Gate       uint16 `json:"gate"`         // TCP: hosts join and renew
	Etcd       uint16 `json:"etcd"`         // TCP: etcd's clients
	Peer       uint16 `json:"etcd_peer"`    // TCP: etcd's members
	Check      uint16 `json:"check"`        // TCP and UDP: probes
	VXLAN      uint16 `json:"vxlan"`        // UDP
	Secure     uint16 `json:"vxlan_secure"` // UDP, inside of WireGuard only
	Encryption uint16 `json:"wireguard"`    // UDP
}

// DefaultPorts are the usual ones.
var DefaultPorts = Ports{Gate: 2380, Etcd: 2379, Peer: 2381, Check: 2382, VXLAN: 4789, Secure: 4790, Encryption: 51871}

// external says that etcd is not the mesh's own.
func (s *State) external() bool { return s.Role == RoleExternal }

// clone is a copy that may be changed.
func (s *State) clone() *State {
	c := *s
	c.Endpoints, c.Gates = slices.Clone(s.Endpoints), slices.Clone(s.Gates)
	return &c
}

// folder is <data-root>/mesh with its parts. Whatever is written in it is there as a
// whole or not at all.
type folder struct {
	path string
	hook func(point string)
}

func (f folder) config() string { return filepath.Join(f.path, "config.json") }
func (f folder) tls() string    { return filepath.Join(f.path, "tls") }
func (f folder) etcd() string   { return filepath.Join(f.path, "etcd") }

// hasData says that this host's etcd has been in its cluster: only then is there a log. A
// start that failed before leaves a folder too.
func (f folder) hasData() bool {
	names, _ := filepath.Glob(filepath.Join(f.etcd(), "member", "wal", "*.wal"))
	return len(names) > 0
}

// staging is where a folder is made that is about to become this one, and removal where
// one goes that was it.
func (f folder) staging() folder { return folder{f.path + ".new", f.hook} }
func (f folder) removal() string { return f.path + ".gone" }

func (f folder) step(point string, do func() error) error {
	if f.hook == nil {
		return do()
	}
	f.hook("mesh." + point + ".before")
	err := do()
	f.hook("mesh." + point + ".after")
	return err
}

// load reads config.json; nil: there is none.
func (f folder) load() (*State, error) {
	b, err := os.ReadFile(f.config())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, cnm.Errorf(cnm.ErrUnavailable, "mesh: %w", err)
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, cnm.Invalid("mesh: %s is damaged (%w): take it from a backup of %s, or leave by moving the folder away and have another host say `linkspan mesh forget`", f.config(), err, f.path)
	}
	if s.Format > stateFormat {
		return nil, cnm.Unsupported("mesh: %s was written by a newer Linkspan (format %d, this one knows %d): start that one", f.config(), s.Format, stateFormat)
	}
	return &s, nil
}

// save writes config.json anew.
func (f folder) save(s *State) error {
	c := *s
	c.Format = stateFormat
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return f.step("config", func() error { return replace(f.config(), append(b, '\n'), 0o600) })
}

// fresh makes an empty staging folder.
func (f folder) fresh() (folder, error) {
	s := f.staging()
	err := f.step("staging", func() error {
		if err := os.RemoveAll(s.path); err != nil {
			return err
		}
		return os.MkdirAll(s.tls(), 0o700)
	})
	return s, f.words(err)
}

// take makes the staging folder the one.
func (f folder) take() error {
	return f.words(f.step("take", func() error {
		s := f.staging()
		for _, dir := range []string{s.tls(), s.path} {
			if err := syncDir(dir); err != nil {
				return err
			}
		}
		if err := os.Rename(s.path, f.path); err != nil {
			return err
		}
		return syncDir(filepath.Dir(f.path))
	}))
}

// remove takes the folder away: by one rename, and then what is left at leisure.
func (f folder) remove() error {
	return f.words(f.step("remove", func() error {
		if err := os.RemoveAll(f.removal()); err != nil {
			return err
		}
		if err := os.Rename(f.path, f.removal()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := syncDir(filepath.Dir(f.path)); err != nil {
			return err
		}
		return os.RemoveAll(f.removal())
	}))
}

// snapshots are files that a backup makes on its way.
const snapshots = "snapshot-*"

// sweep removes what a crash left of a removal, or of a backup.
func (f folder) sweep() error {
	return f.words(f.step("sweep", func() error {
		left, _ := filepath.Glob(filepath.Join(f.path, snapshots))
		err := os.RemoveAll(f.removal())
		for _, name := range left {
			err = errors.Join(err, os.Remove(name))
		}
		return err
	}))
}

func (f folder) words(err error) error {
	if err == nil {
		return nil
	}
	return cnm.Errorf(cnm.ErrUnavailable, "mesh folder %s: %w", f.path, err)
}

// replace puts a file in place of another by one rename (rename(2) is atomic, and what
// was synced before it is what is there after a crash).
func replace(path string, data []byte, mode fs.FileMode) (err error) {
	t, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(t.Name())
		}
	}()
	_, err = t.Write(data)
	err = errors.Join(err, t.Chmod(mode), t.Sync(), t.Close())
	if err != nil {
		return err
	}
	if err = os.Rename(t.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// port names an address and a port as people write them.
func port(a netip.Addr, p uint16) string { return netip.AddrPortFrom(a, p).String() }

// Folder is where a data root has its mesh.
func Folder(dataRoot string) string { return filepath.Join(dataRoot, "mesh") }
