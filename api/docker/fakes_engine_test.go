package docker

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/container"
	"linkspan/image"
	"linkspan/network"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The rest of the engine in memory: networks, counters, images out of
// containers. Each call is noted; what it was given can be looked at.

func (f *fakeContainers) Connect(_ context.Context, ref, network string, ep *apinetwork.EndpointSettings) error {
	f.mu.Lock()
	f.endpoint = ep
	f.mu.Unlock()
	if err := f.note("connect %s %s", ref, network); err != nil {
		return err
	}
	_, err := f.Get(ref)
	return err
}

func (f *fakeContainers) Disconnect(_ context.Context, ref, network string, force bool) error {
	if err := f.note("disconnect %s %s %v", ref, network, force); err != nil {
		return err
	}
	_, err := f.Get(ref)
	return err
}

func (f *fakeContainers) Update(_ context.Context, ref string, u apicontainer.UpdateConfig) ([]string, error) {
	f.mu.Lock()
	f.updated = u
	f.mu.Unlock()
	return nil, f.note("update %s", ref)
}

// Stats counts up: each sample has used one more second of one core.
func (f *fakeContainers) Stats(_ context.Context, ref string) (*apicontainer.StatsResponse, error) {
	if err := f.note("stats %s", ref); err != nil {
		return nil, err
	}
	c, err := f.Get(ref)
	if err != nil {
		return nil, err
	}
	st := &apicontainer.StatsResponse{ID: c.ID, Name: "/" + c.Name}
	if !running(c.State.Phase) {
		return st, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.samples++
	st.Read = time.Unix(int64(f.samples), 0).UTC()
	st.CPUStats.CPUUsage.TotalUsage = uint64(f.samples) * 1e9
	st.Networks = map[string]apicontainer.NetworkStats{"eth0": {RxBytes: 7}}
	return st, nil
}

func (f *fakeContainers) Changes(_ context.Context, ref string) ([]apicontainer.FilesystemChange, error) {
	if _, err := f.Get(ref); err != nil {
		return nil, err
	}
	return []apicontainer.FilesystemChange{{Kind: apicontainer.ChangeAdd, Path: "/new"}}, f.note("changes %s", ref)
}

func (f *fakeContainers) Export(_ context.Context, ref string) (io.ReadCloser, error) {
	if err := f.note("export %s", ref); err != nil {
		return nil, err
	}
	if _, err := f.Get(ref); err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader("a root as tar")), nil
}

func (f *fakeContainers) Commit(_ context.Context, ref string, o container.CommitOptions) (string, error) {
	f.mu.Lock()
	f.committed = o
	f.mu.Unlock()
	if err := f.note("commit %s", ref); err != nil {
		return "", err
	}
	_, err := f.Get(ref)
	return testImageID, err
}

func (f *fakeContainers) Size(_ context.Context, ref string) (rw, root int64, err error) {
	return 11, 1 << 20, f.note("size %s", ref)
}

// CreateNetwork and RemoveNetwork keep the list; the controller's rules are not
// played here, but for those whose words clients match.
func (f *fakeNetwork) CreateNetwork(_ context.Context, w network.NetworkWish) (*cnm.Network, string, error) {
	f.wish = w
	for _, n := range f.networks {
		switch {
		case n.Name == w.Name && n.Predefined:
			return nil, "", cnm.Errorf(cnm.ErrForbidden, "operation is not permitted on predefined %s network", n.Name)
		case n.Name == w.Name:
			return nil, "", cnm.Conflict("network with name %s already exists", n.Name)
		}
	}
	n := &cnm.Network{ID: fmt.Sprintf("%064x", 0xbeef+len(f.networks)), Name: w.Name, Driver: w.Driver, Created: time.Now(), Pools: w.Pools, Labels: w.Labels, Options: w.Options}
	f.networks = append(f.networks, n)
	return n, f.warning, nil
}

func (f *fakeNetwork) RemoveNetwork(_ context.Context, ref string) error {
	n, err := f.Network(ref)
	if err != nil {
		return err
	}
	if n.Predefined {
		return cnm.Errorf(cnm.ErrForbidden, "%s is a pre-defined network and cannot be removed", n.Name)
	}
	for _, s := range f.sandboxes {
		for _, ep := range s.Endpoints {
			if ep.NetworkID == n.ID {
				return cnm.Conflict("network %s has active endpoints: %s", n.Name, s.OwnerName)
			}
		}
	}
	f.networks = slices.DeleteFunc(f.networks, func(x *cnm.Network) bool { return x == n })
	return nil
}

func (fakeImages) Push(_ context.Context, ref, platform string, auth *image.Auth, p image.Progress) error {
	if strings.HasPrefix(ref, "absent") {
		return cnm.NotFound("An image does not exist locally with the tag: %s", ref)
	}
	p("", "The push refers to repository ["+ref+"]", 0, 0)
	p("0a1b2c3d4e5f", "Pushing", 5, 10)
	p("0a1b2c3d4e5f", "Pushed", 0, 0)
	if strings.HasPrefix(ref, "forbidden") {
		return cnm.Errorf(cnm.ErrForbidden, "denied: requested access to the resource is denied")
	}
	p("", "1.0: digest: "+testImageID+" size: 1234", 0, 0)
	return nil
}

func (fakeImages) Save(_ context.Context, refs []string, platform string, w io.Writer) error {
	for _, r := range refs {
		if r == "absent" {
			return cnm.NotFound("No such image: %s", r)
		}
	}
	_, err := fmt.Fprintf(w, "archive of %s for %q", strings.Join(refs, " "), platform)
	return err
}

func (fakeImages) Distribution(_ context.Context, ref string, auth *image.Auth) (*image.Distribution, error) {
	if ref == "absent" {
		return nil, cnm.NotFound("manifest unknown: absent")
	}
	return &image.Distribution{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.Digest(testImageID), Size: 42},
		Platforms:  []ocispec.Platform{{OS: "linux", Architecture: "amd64"}},
	}, nil
}

func (fakeImages) Usage(context.Context) (*image.Usage, error) {
	return &image.Usage{Layers: 1 << 20, Shared: map[string]int64{testImageID: 4096}}, nil
}
