package daemon

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/config"
	"linkspan/store"
	"linkspan/store/bolt"
)

// RepairStore is `linkspan doctor --repair-store`: it makes a data root's damaged state
// file whole again, of what can be read of it and of its good copy, and tells what may
// be lost. The arguments are the daemon's. It returns the exit code: 0 nothing was
// wrong, or all was saved; 2 something may be lost; 1 it was not repaired.
//
// It works without a daemon, and refuses beside one.
func RepairStore(o Options, args []string, asJSON bool) int {
	r, code, ok := parse(o, args)
	if !ok {
		return code
	}
	a, err := repairStore(r.Config, time.Now())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(a)
	} else {
		err = a.WriteText(os.Stdout)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	case !a.Complete() || a.NewID != "":
		return 2
	}
	return 0
}

// repaired is what the person is told.
type repaired struct {
	*bolt.Repaired
	// Older and Uncertain are FromCopy and FromPages in words ("container web").
	Older, Uncertain []string `json:",omitempty"`
	// Kinds are what the holes may have held.
	Kinds []string `json:",omitempty"`
	// Missing are things of which something else tells that they were there.
	Missing []string `json:",omitempty"`
	// NewID is the instance's id, which was lost and made again of what the keeper is
	// called, or anew.
	NewID string `json:",omitempty"`
	// SameMarks: the new id marks kernel objects as the lost one did.
	SameMarks bool `json:",omitempty"`
}

func repairStore(cfg *config.Config, now time.Time) (*repaired, error) {
	path := stateFile(cfg)
	a := &repaired{}
	var have map[string]store.Entry
	r, err := bolt.Repair(path, now, func(found map[string]store.Entry) (add []store.Entry) {
		have = found
		if _, ok := found[idKey]; !ok {
			a.NewID, a.SameMarks = inheritID(cfg)
			add = append(add, store.Entry{Key: idKey, Value: []byte(a.NewID)})
		}
		return add
	})
	if errors.Is(err, cnm.ErrConflict) {
		return nil, fmt.Errorf("the store is not repaired beside a daemon, which would write on: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if a.Repaired = r; r.Sound {
		return a, nil
	}
	n := namesOf(have)
	for _, k := range r.FromCopy {
		a.Older = append(a.Older, n.of(k))
	}
	for _, k := range r.FromPages {
		a.Uncertain = append(a.Uncertain, n.of(k))
	}
	for _, kind := range kinds {
		if slices.ContainsFunc(r.Holes, func(h bolt.Range) bool {
			return h.From < kind.prefix+"\xff" && (h.To == "" || h.To > kind.prefix)
		}) {
			a.Kinds = append(a.Kinds, kind.many)
		}
	}
	a.Missing = n.missing(cfg)
	return a, nil
}

// kinds of keys, as their rooms name them.
var kinds = []struct{ prefix, one, many string }{
	{"containers/", "container", "containers"},
	{"networks/", "network", "networks"},
	{"sandboxes/", "sandbox of", "sandboxes"},
	{"volumes/", "volume", "volumes"},
	{"execs/", "exec", "execs"},
	{sharedKeys, "prior value of", "prior values of sysctls"},
}

// record is what the rooms' records have in common for those who only want names.
type record struct {
	ID, Name string
	// Of sandboxes.
	Owner     string
	OwnerName string `json:"owner_name"`
	Endpoints []struct {
		NetworkID   string `json:"network_id"`
		NetworkName string `json:"network_name"`
	}
}

type named map[string]record

func namesOf(have map[string]store.Entry) named {
	n := named{}
	for k, e := range have {
		var r record
		_ = json.Unmarshal(e.Value, &r) // some are no objects: their key is their name
		n[k] = r
	}
	return n
}

// of puts a key into words.
func (n named) of(key string) string {
	for _, kind := range kinds {
		if id, ok := strings.CutPrefix(key, kind.prefix); ok {
			if len(id) == 64 {
				id = id[:12]
			}
			return kind.one + " " + cmp.Or(n[key].Name, n[key].OwnerName, id)
		}
	}
	return key
}

// missing finds what other records, the data root and the kernel know and no record
// names.
func (n named) missing(cfg *config.Config) (out []string) {
	seen := map[string]bool{}
	say := func(key, format string, args ...any) {
		if _, ok := n[key]; !ok && !seen[key] {
			seen[key] = true
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	short := map[string]bool{}
	for key, r := range n {
		_, id, _ := strings.Cut(key, "/")
		short[key[:strings.IndexByte(key+"/", '/')]+"/"+id[:min(12, len(id))]] = true
		if !strings.HasPrefix(key, "sandboxes/") {
			continue
		}
		if r.Owner != "" {
			say("containers/"+r.Owner, "container %s: its sandbox is recorded, and it is not", r.OwnerName)
		}
		for _, e := range r.Endpoints {
			say("networks/"+e.NetworkID, "network %s: %s is on it, and it is not recorded", e.NetworkName, r.OwnerName)
		}
	}
	folders, _ := os.ReadDir(filepath.Join(cfg.DataRoot, "containers"))
	for _, f := range folders {
		if len(f.Name()) == 64 {
			say("containers/"+f.Name(), "container %.12s: its folder with its log is there, %s", f.Name(), filepath.Join(cfg.DataRoot, "containers", f.Name()))
		}
	}
	pins, _ := os.ReadDir(pinDir(cfg))
	for _, p := range pins {
		if !short["sandboxes/"+p.Name()] {
			out = append(out, fmt.Sprintf("sandbox %s: its network namespace is there, %s; the daemon's next start removes it, and ends a container that runs in it",
				p.Name(), filepath.Join(pinDir(cfg), p.Name())))
		}
	}
	links, _ := filepath.Glob("/sys/class/net/br-????????????")
	for _, l := range links {
		if id := strings.TrimPrefix(filepath.Base(l), "br-"); !short["networks/"+id] {
			alias, _ := os.ReadFile(filepath.Join(l, "ifalias"))
			if alias = bytes.TrimSpace(alias); len(alias) > 0 {
				out = append(out, fmt.Sprintf("network %s: its bridge is there, %s (%s)", id, filepath.Base(l), alias))
			}
		}
	}
	slices.Sort(out)
	return out
}

// inheritID makes an id whose first digits, the marks on everything in the kernel, are
// those by which a keeper that still runs for this exec root is called.
func inheritID(cfg *config.Config) (id string, same bool) {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] |= 1
	id = hex.EncodeToString(b)
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range lines {
		text, err := os.ReadFile(l)
		args := strings.Split(string(text), "\x00")
		if err != nil || !slices.Contains(args, "keeper") || !slices.Contains(args, filepath.Join(cfg.ExecRoot, "keeper")) && !slices.Contains(args, "--dir="+filepath.Join(cfg.ExecRoot, "keeper")) {
			continue
		}
		for i, arg := range args {
			name, ok := strings.CutPrefix(arg, "--name=")
			if arg == "--name" && i+1 < len(args) {
				name, ok = args[i+1], true
			}
			if ok && len(name) == 6 {
				return name + id[6:], true
			}
		}
	}
	return id, false
}

// WriteText writes the report as a person reads it.
func (a *repaired) WriteText(w io.Writer) error {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if a.Sound {
		say("%s is sound: %d records, revision %d. Nothing was done.", a.File, a.Records, a.Revision)
		_, err := io.WriteString(w, b.String())
		return err
	}
	say("%s was damaged: %s.", a.File, a.Reason)
	if a.Kept != "" {
		say("It is kept as %s.", a.Kept)
	}
	say("It was made anew with %d records: %d as they were last written, %d of the good copy, %d found beside.",
		a.Records, a.Certain, len(a.FromCopy), len(a.FromPages))
	switch {
	case a.Copy != "":
		say("The good copy is of %s.", a.CopyTime.UTC().Format("2006-01-02 15:04:05 MST"))
	case a.CopyReason != "":
		say("There is no good copy: %s.", a.CopyReason)
	default:
		say("There is no good copy.")
	}
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			say("\n%s\n  %s", title, strings.Join(lines, "\n  "))
		}
	}
	if a.NewID != "" && a.SameMarks {
		list("The instance's id was lost:", []string{a.NewID + " was made, with the first digits that the running keeper knows; the kernel's objects stay known"})
	} else if a.NewID != "" {
		list("The instance's id was lost:", []string{a.NewID + " was made: what the former instance left in the kernel is not known to be ours; a reboot takes it away"})
	}
	list("As they were when the copy was made (changes since are lost):", a.Older)
	list("Found in pages that are no longer used (perhaps they were removed since; docker rm, docker network rm):", a.Uncertain)
	list("Known from elsewhere, and without a record:", a.Missing)
	if len(a.Kinds) > 0 {
		say("\nWhat could not be read were %s; what was made of these after the copy, and is not listed here, is lost.", strings.Join(a.Kinds, ", "))
	} else {
		say("\nNothing is lost.")
	}
	say("\nNow start the daemon, and compare: linkspan ps -a; linkspan network ls; linkspan reconcile --dry-run")
	_, err := io.WriteString(w, b.String())
	return err
}

func stateFile(cfg *config.Config) string { return filepath.Join(cfg.DataRoot, "linkspan.db") }
func pinDir(cfg *config.Config) string    { return filepath.Join(cfg.ExecRoot, "netns") }

// forgotten refuses to make a state anew beside containers that were made by a former one:
// the sweep would remove their folders, with their logs.
func forgotten(cfg *config.Config) error {
	if _, err := os.Stat(stateFile(cfg)); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	dir := filepath.Join(cfg.DataRoot, "containers")
	folders, _ := os.ReadDir(dir)
	folders = slices.DeleteFunc(folders, func(f os.DirEntry) bool { return len(f.Name()) != 64 })
	if len(folders) == 0 {
		return nil
	}
	if _, err := os.Stat(stateFile(cfg) + ".good"); err == nil {
		return nil // the store tells it
	}
	return cnm.Errorf(cnm.ErrUnavailable, "the state file %s is gone, and %s has folders of %d containers that it recorded; put a backup of it in its place, or, to start anew, remove %s",
		stateFile(cfg), dir, len(folders), dir)
}
