package mounts

import (
	"errors"
	"strings"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"
	apimount "github.com/moby/moby/api/types/mount"

	"github.com/google/go-cmp/cmp"

	"linkspan/cnm"
)

func TestParse(t *testing.T) {
	for raw, want := range map[string]Point{
		"/data":          {Type: Volume, Destination: "/data", RW: true},
		"/h:/c":          {Type: Bind, Source: "/h", Destination: "/c", RW: true, Propagation: "rprivate", CreateSource: true},
		"/h/../x/:/c/d/": {Type: Bind, Source: "/x", Destination: "/c/d", RW: true, Propagation: "rprivate", CreateSource: true},
		"/h:/c:ro":       {Type: Bind, Source: "/h", Destination: "/c", Mode: "ro", Propagation: "rprivate", CreateSource: true},
		"/h:/c:rshared,ro,Z,cached": {Type: Bind, Source: "/h", Destination: "/c", Mode: "rshared,ro,Z,cached",
			Propagation: "rshared", CreateSource: true},
		"vol:/c":            {Type: Volume, Name: "vol", Destination: "/c", RW: true, Mode: "z"},
		"my_vol.1-x:/c:ro":  {Type: Volume, Name: "my_vol.1-x", Destination: "/c", Mode: "ro"},
		"vol:/c:nocopy,rw":  {Type: Volume, Name: "vol", Destination: "/c", RW: true, NoCopy: true, Mode: "nocopy,rw"},
		"/:/host":           {Type: Bind, Source: "/", Destination: "/host", RW: true, Propagation: "rprivate", CreateSource: true},
		"vol:/with space/x": {Type: Volume, Name: "vol", Destination: "/with space/x", RW: true, Mode: "z"},
	} {
		got, err := Parse(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", raw, d)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for raw, words := range map[string]string{
		"":                   "invalid volume specification: ''",
		":/c":                "invalid volume specification: ':/c'",
		"/h:":                "invalid volume specification: '/h:'",
		"/h:/c:ro:x":         "invalid volume specification",
		"/c:ro":              "invalid volume specification: '/c:ro'",
		"c":                  "mount path must be absolute",
		"vol:rel":            `invalid mount config for type "volume": invalid mount path: 'rel' mount path must be absolute`,
		"/h:/":               "destination can't be '/'",
		"/h:/..":             "destination can't be '/'",
		"/h:/c:fast":         "invalid mode: fast",
		"/h:/c:ro,rw":        "invalid mode: ro,rw",
		"/h:/c:z,Z":          "invalid mode",
		"/h:/c:nocopy":       "invalid mode: nocopy",
		"vol:/c:rshared":     "invalid mode: rshared",
		"/h:/c:slave,shared": "invalid mode",
		"../x:/c":            "If you intended to pass a host directory, use absolute path",
		"v:/c":               "volume name is too short",
	} {
		if _, err := Parse(raw); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q", raw, err, words)
		}
	}
}

func TestFromMount(t *testing.T) {
	for _, c := range []struct {
		name  string
		in    apimount.Mount
		want  Point
		class error
		words string
	}{
		{name: "bind", in: apimount.Mount{Type: "bind", Source: "/h/", Target: "/c", ReadOnly: true},
			want: Point{Type: Bind, Source: "/h", Destination: "/c", Propagation: "rprivate"}},
		{name: "bind options", in: apimount.Mount{Type: "bind", Source: "/h", Target: "/c",
			BindOptions: &apimount.BindOptions{Propagation: "rslave", NonRecursive: true, CreateMountpoint: true}},
			want: Point{Type: Bind, Source: "/h", Destination: "/c", RW: true, Propagation: "rslave", NonRecursive: true, CreateSource: true}},
		{name: "bind relative", in: apimount.Mount{Type: "bind", Source: "h", Target: "/c"}, class: cnm.ErrInvalid, words: "must be absolute"},
		{name: "bind empty", in: apimount.Mount{Type: "bind", Target: "/c"}, class: cnm.ErrInvalid, words: "field Source must not be empty"},
		{name: "bind propagation", in: apimount.Mount{Type: "bind", Source: "/h", Target: "/c", BindOptions: &apimount.BindOptions{Propagation: "x"}}, class: cnm.ErrInvalid, words: "propagation"},
		{name: "bind force", in: apimount.Mount{Type: "bind", Source: "/h", Target: "/c", BindOptions: &apimount.BindOptions{ReadOnlyForceRecursive: true}}, class: cnm.ErrInvalid, words: "ReadOnlyForceRecursive"},
		{name: "no target", in: apimount.Mount{Type: "bind", Source: "/h"}, class: cnm.ErrInvalid, words: "Target must not be empty"},
		{name: "wrong options", in: apimount.Mount{Type: "bind", Source: "/h", Target: "/c", VolumeOptions: &apimount.VolumeOptions{}}, class: cnm.ErrInvalid, words: "VolumeOptions must not be specified"},
		{name: "volume", in: apimount.Mount{Type: "volume", Source: "vol", Target: "/c", VolumeOptions: &apimount.VolumeOptions{NoCopy: true,
			Labels: map[string]string{"a": "b"}, DriverConfig: &apimount.Driver{Name: "local", Options: map[string]string{"o": "p"}}}},
			want: Point{Type: Volume, Name: "vol", Destination: "/c", RW: true, Mode: "z", NoCopy: true, Labels: map[string]string{"a": "b"}, Driver: "local", DriverOpts: map[string]string{"o": "p"}}},
		{name: "anonymous", in: apimount.Mount{Type: "volume", Target: "/c"}, want: Point{Type: Volume, Destination: "/c", RW: true}},
		{name: "volume name", in: apimount.Mount{Type: "volume", Source: "/x", Target: "/c"}, class: cnm.ErrInvalid, words: "absolute path"},
		{name: "subpath", in: apimount.Mount{Type: "volume", Source: "vol", Target: "/c", VolumeOptions: &apimount.VolumeOptions{Subpath: "../x"}}, class: cnm.ErrInvalid, words: "relative path within the volume"},
		{name: "tmpfs", in: apimount.Mount{Type: "tmpfs", Target: "/t", ReadOnly: true, TmpfsOptions: &apimount.TmpfsOptions{SizeBytes: 4096, Mode: 0o1700, Options: [][]string{{"exec"}, {"uid", "5"}}}},
			want: Point{Type: Tmpfs, Destination: "/t", Options: []string{"nosuid", "nodev", "ro", "size=4096", "mode=1700", "exec", "uid=5"}}},
		{name: "tmpfs source", in: apimount.Mount{Type: "tmpfs", Source: "x", Target: "/t"}, class: cnm.ErrInvalid, words: "Source must not be specified"},
		{name: "image", in: apimount.Mount{Type: "image", Source: "x", Target: "/t"}, class: cnm.ErrUnsupported, words: "image"},
		{name: "pipe", in: apimount.Mount{Type: "npipe", Source: "x", Target: "/t"}, class: cnm.ErrInvalid, words: "mount type unknown"},
	} {
		got, err := FromMount(c.in)
		if c.class != nil {
			if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestTmpfsOptions(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{nil, []string{"noexec", "nosuid", "nodev"}},
		{[]string{"exec"}, []string{"nosuid", "nodev", "exec"}},
		{[]string{"size=1m", "size=2m", "defaults"}, []string{"noexec", "nosuid", "nodev", "size=2m"}},
		{[]string{"rw", "ro", "dev"}, []string{"noexec", "nosuid", "ro", "dev"}},
	} {
		got, err := TmpfsOptions(c.in)
		if d := cmp.Diff(c.want, got); d != "" || err != nil {
			t.Errorf("%q: %v %s", c.in, err, d)
		}
	}
	for _, bad := range []string{"fly", "size", "huge=always", "noexec=1", ""} {
		if _, err := TmpfsOptions([]string{bad}); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSet(t *testing.T) {
	hc := &apicontainer.HostConfig{
		Binds:  []string{"/h:/b", "vol:/v"},
		Mounts: []apimount.Mount{{Type: "bind", Source: "/m", Target: "/from"}},
		Tmpfs:  map[string]string{"/t": "size=1m"},
	}
	points, err := Set(hc, map[string]struct{}{"/b/": {}, "/t": {}, "/anon": {}}, []Point{
		{Type: Volume, Name: "old", Destination: "/from"}, {Type: Volume, Name: "kept", Destination: "/kept"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range points {
		got = append(got, p.Destination+" "+p.Type+" "+p.Name+p.Source)
	}
	want := []string{"/anon volume ", "/b bind /h", "/from bind /m", "/kept volume kept", "/t tmpfs ", "/v volume vol"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []*apicontainer.HostConfig{
		{Binds: []string{"/a:/x", "/b:/x/"}},
		{Binds: []string{"/a:/x"}, Tmpfs: map[string]string{"/x": ""}},
		{Binds: []string{"/a:/x"}, Mounts: []apimount.Mount{{Type: "volume", Target: "/x"}}},
	} {
		if _, err := Set(bad, nil, nil); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "Duplicate mount point: /x") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := Set(&apicontainer.HostConfig{Tmpfs: map[string]string{"rel": ""}}, nil, nil); !errors.Is(err, cnm.ErrInvalid) {
		t.Error(err)
	}
}

func TestParseVolumesFrom(t *testing.T) {
	if c, rw, err := ParseVolumesFrom("db:ro"); c != "db" || rw || err != nil {
		t.Error(c, rw, err)
	}
	if c, rw, err := ParseVolumesFrom("db"); c != "db" || !rw || err != nil {
		t.Error(c, rw, err)
	}
	for _, bad := range []string{"", ":ro", "db:fast"} {
		if _, _, err := ParseVolumesFrom(bad); err == nil {
			t.Error(bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"/a:/b:ro", "v:/b", "/x", ":", "::", "a:b:c:d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			if !errors.Is(err, cnm.ErrInvalid) {
				t.Fatalf("%q: an error of no class: %v", s, err)
			}
			return
		}
		if !strings.HasPrefix(p.Destination, "/") || p.Destination == "/" {
			t.Fatalf("%q: %+v", s, p)
		}
	})
}
