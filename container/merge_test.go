package container

import (
	"errors"
	"net/netip"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/google/go-cmp/cmp"

	"linkspan/cnm"
	"linkspan/image"
	"linkspan/publish"
)

func TestMergeAndCommand(t *testing.T) {
	img := func() *image.Image {
		i := &image.Image{}
		i.Config.Config = ocispec.ImageConfig{
			User: "web", Env: []string{"PATH=/bin", "A=img"}, Entrypoint: []string{"/entry"}, Cmd: []string{"serve"},
			WorkingDir: "/srv", StopSignal: "SIGQUIT", ExposedPorts: map[string]struct{}{"80/tcp": {}},
			Volumes: map[string]struct{}{"/data": {}}, Labels: map[string]string{"l": "img", "only": "img"},
		}
		return i
	}
	for _, c := range []struct {
		name string
		in   apicontainer.Config
		run  []string
	}{
		{"nothing", apicontainer.Config{}, []string{"/entry", "serve"}},
		{"command", apicontainer.Config{Cmd: []string{"x"}}, []string{"/entry", "x"}},
		{"entry point", apicontainer.Config{Entrypoint: []string{"/mine"}}, []string{"/mine"}},
		{"both", apicontainer.Config{Entrypoint: []string{"/mine"}, Cmd: []string{"x"}}, []string{"/mine", "x"}},
		{"entry point away", apicontainer.Config{Entrypoint: []string{""}, Cmd: []string{"x"}}, []string{"x"}},
		{"nothing left", apicontainer.Config{Entrypoint: []string{""}}, nil},
	} {
		in := c.in
		if err := merge(&in, img()); err != nil {
			t.Fatal(err)
		}
		path, args, err := command(&in)
		if c.run == nil {
			if !errors.Is(err, cnm.ErrInvalid) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if d := cmp.Diff(c.run, append([]string{path}, args...)); d != "" || err != nil {
			t.Errorf("%s: %v %s", c.name, err, d)
		}
	}
	in := apicontainer.Config{Env: []string{"A=own", "B"}, Labels: map[string]string{"l": "own"}, Volumes: map[string]struct{}{"/more": {}},
		ExposedPorts: apinetwork.PortSet{apinetwork.MustParsePort("53/udp"): {}}, User: "root", WorkingDir: "/", StopSignal: "SIGTERM"}
	if err := merge(&in, img()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"A=own", "B", "PATH=/bin"}, in.Env); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"l": "own", "only": "img"}, in.Labels); d != "" {
		t.Error(d)
	}
	if len(in.Volumes) != 2 || len(in.ExposedPorts) != 2 || in.User != "root" || in.WorkingDir != "/" || in.StopSignal != "SIGTERM" {
		t.Errorf("%+v", in)
	}
}

func TestRequests(t *testing.T) {
	port := apinetwork.MustParsePort
	cfg := &apicontainer.Config{ExposedPorts: apinetwork.PortSet{port("80/tcp"): {}, port("53/udp"): {}}}
	hc := &apicontainer.HostConfig{PortBindings: apinetwork.PortMap{
		port("80/tcp"):   {{HostPort: "8080"}, {HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "8081"}},
		port("9000/tcp"): {{HostPort: "9000"}}, port("9001/tcp"): {{HostPort: "9001"}},
		port("7/tcp"): {},
	}}
	got, err := requests(cfg, hc)
	if err != nil {
		t.Fatal(err)
	}
	want := []publish.Request{
		{Proto: "tcp", Port: 7, PortEnd: 7},
		{Proto: "tcp", HostPort: 8080, HostPortEnd: 8080, Port: 80, PortEnd: 80},
		{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8081, HostPortEnd: 8081, Port: 80, PortEnd: 80},
		{Proto: "tcp", HostPort: 9000, HostPortEnd: 9001, Port: 9000, PortEnd: 9001},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
	hc.PublishAllPorts = true
	if got, err = requests(cfg, hc); err != nil || len(got) != 5 {
		t.Errorf("with -P: %+v %v", got, err)
	}
}
