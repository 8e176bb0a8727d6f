package images

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// Serve runs a read-only docker-registry over the set in the network namespace
// at netns ("" for the caller's own) on addr, such as 127.0.0.1:5000 (port 0
// takes a free one). url is for --registry-mirror. stop ends it and may be
// called more than once; the end of this process ends it as well.
func (s *Set) Serve(ctx context.Context, netns, addr string) (url string, stop func(), err error) {
	r, err := startRegistry(ctx, s.cache.path("registry", s.Key, "storage"), netns, addr, true)
	if err != nil {
		return "", nil, err
	}
	return r.url(), func() { r.close() }, nil
}

// StartRegistry builds what is missing and serves it: see Build and Serve.
func StartRegistry(ctx context.Context, netns, addr string) (url string, stop func(), err error) {
	set, err := Build(ctx, Options{})
	if err != nil {
		return "", nil, err
	}
	return set.Serve(ctx, netns, addr)
}

// RegistryFor serves the images for one test, and fails the test if they
// cannot be built. The caller has asked probe for root before.
func RegistryFor(t testing.TB, netns, addr string) (url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	url, stop, err := StartRegistry(ctx, netns, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return url
}

// Find gives the image of that name.
func (s *Set) Find(name string) (Built, error) {
	for _, image := range s.Images {
		if image.Name == name {
			return image, nil
		}
	}
	return Built{}, fmt.Errorf("no test image %q; `list` names them", name)
}

// Prune removes from the cache what was not used for longer than keep and is
// not part of this set.
func (s *Set) Prune(keep time.Duration) ([]string, error) {
	used := map[string]bool{s.Key: true}
	k, err := keys(Layers())
	if err != nil {
		return nil, err
	}
	for _, key := range k {
		used[key] = true
	}
	unlock, err := s.cache.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.cache.prune(keep, used)
}
