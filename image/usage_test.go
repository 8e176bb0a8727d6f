package image

import (
	"testing"

	"linkspan/image/imagetest"
)

func TestUsage(t *testing.T) {
	r := newRig(t)
	if u, err := r.Usage(t.Context()); err != nil || u.Layers != 0 {
		t.Errorf("nothing: %+v %v", u, err)
	}
	one, id1 := imagetest.DockerArchive(imagetest.Simple("base", "app"), "app:1", "app:2")
	two, id2 := imagetest.DockerArchive(imagetest.Simple("base", "two"), "two:1")
	alone, id3 := imagetest.DockerArchive(imagetest.Simple("alone"), "alone:1")
	for _, b := range [][]byte{one, two, alone} {
		r.load(b)
	}
	u, err := r.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	base := u.Shared[id1]
	if base == 0 || u.Shared[id2] != base || u.Shared[id3] != 0 {
		t.Errorf("shared: %v", u.Shared)
	}
	if want := r.get(id1).Size + r.get(id2).Size + r.get(id3).Size - base; u.Layers != want {
		t.Errorf("%d bytes in layers, want %d", u.Layers, want)
	}
	r.remove("two:1", true)
	if u, err = r.Usage(t.Context()); err != nil || u.Shared[id1] != 0 {
		t.Errorf("after the removal: %+v %v", u, err)
	}
}
