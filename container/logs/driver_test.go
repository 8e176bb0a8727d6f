package logs

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"linkspan/cnm"
)

func TestParse(t *testing.T) {
	type opts = map[string]string
	for _, c := range []struct {
		driver   string
		opts     opts
		size     int64
		files    int
		compress bool
		err      string
		class    error
	}{
		{files: 1},
		{driver: "json-file", opts: opts{"max-size": "10m", "max-file": "3"}, size: 10_000_000, files: 3},
		{opts: opts{"max-size": "1k"}, size: 1000, files: 1},
		{opts: opts{"max-size": "1m", "max-file": "2", "compress": "true"}, size: 1_000_000, files: 2, compress: true},
		{driver: "local", size: 20 << 20, files: 5, compress: true},
		{driver: "local", opts: opts{"max-file": "2", "compress": "false"}, size: 20 << 20, files: 2},
		{driver: "local", opts: opts{"max-file": "1"}, size: 20 << 20, files: 1},
		{driver: "none", files: 1},
		{opts: opts{"mode": "non-blocking", "max-buffer-size": "4m"}, files: 1},
		{opts: opts{"mode": "blocking", "labels": "a,b", "env": "X", "tag": "{{.Name}}/{{.ID}}"}, files: 1},

		{driver: "journald", err: `log driver "journald"`, class: cnm.ErrUnsupported},
		{driver: "jsonfile", err: "did you mean json-file?", class: cnm.ErrUnsupported},
		{opts: opts{"max-sise": "1"}, err: "unknown log opt 'max-sise' for json-file log driver; did you mean max-size?"},
		{driver: "local", opts: opts{"labels": "x"}, err: "unknown log opt 'labels' for local"},
		{opts: opts{"max-size": "many"}, err: "max-size=many"},
		{opts: opts{"max-size": "0"}, err: "positive"},
		{opts: opts{"max-size": "1m", "max-file": "0"}, err: "max-file cannot be less than 1"},
		{opts: opts{"max-size": "1m", "max-file": "x"}, err: "max-file=x"},
		{opts: opts{"max-file": "2"}, files: 2}, // as dockerd: without a size nothing rotates
		{opts: opts{"max-size": "1m", "compress": "true"}, err: "compress cannot be true"},
		{opts: opts{"compress": "maybe"}, err: "compress=maybe"},
		{opts: opts{"mode": "sometimes"}, err: "logging mode not supported: sometimes"},
		{opts: opts{"max-buffer-size": "4m"}, err: "only supported with 'mode=non-blocking'"},
		{opts: opts{"env-regex": "("}, err: "env-regex"},
		{opts: opts{"tag": "{{.Nope}}"}, err: "Nope"},
		{opts: opts{"tag": "{{"}, err: "tag="},
	} {
		s, err := Parse(c.driver, c.opts)
		if c.err != "" {
			class := c.class
			if class == nil {
				class = cnm.ErrInvalid
			}
			if err == nil || !strings.Contains(err.Error(), c.err) || !errors.Is(err, class) {
				t.Errorf("%s %v: %v, want %q", c.driver, c.opts, err, c.err)
			}
			continue
		}
		if err != nil || s.MaxSize != c.size || s.MaxFile != c.files || s.Compress != c.compress {
			t.Errorf("%s %v: %+v, %v", c.driver, c.opts, s, err)
		}
	}
}

func TestAttrs(t *testing.T) {
	of := &Subject{
		ContainerID: strings.Repeat("ab", 32), ContainerName: "web", ImageID: "sha256:" + strings.Repeat("cd", 32), ImageRef: "nginx:1",
		Args: []string{"nginx", "-g"}, Env: []string{"A=1", "APP_X=2", "B=3=4", "BARE"}, Labels: map[string]string{"one": "1", "two": "2", "team": "x"}, Host: "h",
	}
	for _, c := range []struct {
		opts map[string]string
		want map[string]string
	}{
		{nil, nil},
		{map[string]string{"labels": "one,none", "env": "B, A"}, map[string]string{"one": "1", "A": "1", "B": "3=4"}},
		{map[string]string{"labels-regex": "^t", "env-regex": "^APP_"}, map[string]string{"two": "2", "team": "x", "APP_X": "2"}},
		{map[string]string{"tag": "{{.Name}}/{{.ID}}/{{.ImageName}}/{{.ImageID}}/{{.Command}}/{{.Hostname}}/{{.DaemonName}}"},
			map[string]string{"tag": "web/abababababab/nginx:1/cdcdcdcdcdcd/nginx -g/h/docker"}},
		{map[string]string{"tag": ""}, nil},
	} {
		s, err := Parse(JSONFile, c.opts)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Attrs(of)
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%v: %s", c.opts, d)
		}
	}
}
