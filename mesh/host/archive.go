package host

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"linkspan/cnm"
)

// Archive is what a backup says of itself, its first entry.
type Archive struct {
	// Format is archiveFormat; another Linkspan may write another.
	Format  string    `json:"format"`
	Mesh    string    `json:"mesh"`
	Created time.Time `json:"created"`
	// Host is the name of the one that wrote it; Hosts are how many there were.
	Host     string `json:"host"`
	Hosts    int    `json:"hosts"`
	Revision int64  `json:"revision"`
	// Bytes is the snapshot's size.
	Bytes int64 `json:"bytes"`
	// Endpoints were the members'; Ports and Voters are the mesh's.
	Endpoints []string `json:"endpoints,omitempty"`
	Ports     Ports    `json:"ports"`
	Voters    int      `json:"voters,omitempty"`
	// File is where the backup is, as its writer calls it.
	File string `json:"file,omitempty"`
}

const archiveFormat = "linkspan-mesh-1"

// The entries of an archive, in this order. The last holds the sums of all before it:
// without it, the archive is not whole.
const (
	entryManifest = "manifest.json"
	entryCA       = "ca.crt"
	entryCAKey    = "ca.key"
	entryEtcd     = "etcd.db"
	entrySums     = "sums.json"
)

// WriteText says what is in it.
func (a *Archive) WriteText(w io.Writer) error {
	_, err := fmt.Fprintf(w, "mesh %s is in %s: %s, revision %d, %s\nwho has this file can let hosts in: keep it as you keep keys\n", a.Mesh, orDash(a.File), counted(a.Hosts, "host", "hosts"), a.Revision, size(a.Bytes))
	return err
}

// packer writes an archive.
type packer struct {
	zip  *gzip.Writer
	tar  *tar.Writer
	sums map[string]string
	now  time.Time
}

func newPacker(w io.Writer, now time.Time) *packer {
	z := gzip.NewWriter(w)
	return &packer{zip: z, tar: tar.NewWriter(z), sums: map[string]string{}, now: now}
}

func (p *packer) add(name string, size int64, r io.Reader) error {
	if err := p.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: p.now, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(p.tar, sum), r); err != nil {
		return err
	}
	p.sums[name] = hex.EncodeToString(sum.Sum(nil))
	return nil
}

func (p *packer) addBytes(name string, b []byte) error {
	return p.add(name, int64(len(b)), bytes.NewReader(b))
}

// end writes the sums, and all that is kept back.
func (p *packer) end() error {
	b, err := json.Marshal(p.sums)
	if err != nil {
		return err
	}
	return errors.Join(p.addBytes(entrySums, b), p.tar.Close(), p.zip.Close())
}

// unpack hands each entry to its taker, and errs unless all were whole. The sums come
// last: what a taker was given counts only when unpack returns nil.
func unpack(r io.Reader, take map[string]func(io.Reader) error) (*Archive, error) {
	broken := func(err error) error {
		return cnm.Invalid("it is no whole backup of a mesh: %w; use another one", err)
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, broken(err)
	}
	a, sums := &Archive{}, map[string]string{}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil, broken(errors.New("its end is missing"))
		}
		if err != nil {
			return nil, broken(err)
		}
		if h.Name == entrySums {
			if err := wholeSums(t, sums); err != nil {
				return nil, broken(err)
			}
			return a, nil
		}
		sum := sha256.New()
		in := io.TeeReader(t, sum)
		switch {
		case h.Name == entryManifest:
			if err := json.NewDecoder(io.LimitReader(in, 1<<20)).Decode(a); err != nil {
				return nil, broken(err)
			}
			if a.Format != archiveFormat {
				return nil, cnm.Invalid("the backup is of format %q, and this Linkspan knows %q: use the one that wrote it", a.Format, archiveFormat)
			}
		case take[h.Name] != nil:
			if err := take[h.Name](in); err != nil {
				return nil, err
			}
		}
		if _, err := io.Copy(io.Discard, in); err != nil {
			return nil, broken(err)
		}
		sums[h.Name] = hex.EncodeToString(sum.Sum(nil))
	}
}

func wholeSums(r io.Reader, have map[string]string) error {
	var want map[string]string
	if err := json.NewDecoder(r).Decode(&want); err != nil {
		return err
	}
	for _, name := range []string{entryManifest, entryCA, entryCAKey, entryEtcd} {
		switch {
		case want[name] == "" || have[name] == "":
			return fmt.Errorf("%s is not in it", name)
		case want[name] != have[name]:
			return fmt.Errorf("%s is not as it was written", name)
		}
	}
	return nil
}

// Inspect reads an archive to its end, and says what is in it, or why it is not whole.
func Inspect(r io.Reader) (*Archive, error) {
	return unpack(r, nil)
}
