package image

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"

	"linkspan/cnm"
	"linkspan/image/imagetest"
)

const ctr1, ctr2 = "aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb"

func (r *rig) remove(ref string, force bool) []string {
	r.t.Helper()
	list, err := r.Remove(r.t.Context(), ref, force, true)
	if err != nil {
		r.t.Fatalf("rmi %s: %v", ref, err)
	}
	return removed(list)
}

func (r *rig) conflict(ref string, force bool, words string) {
	r.t.Helper()
	if _, err := r.Remove(r.t.Context(), ref, force, true); !errors.Is(err, cnm.ErrConflict) || err.Error() != words {
		r.t.Errorf("rmi %s: %v, want %q", ref, err, words)
	}
}

func (r *rig) tag(ref, target string) {
	r.t.Helper()
	if err := r.Tag(r.t.Context(), ref, target); err != nil {
		r.t.Fatal(err)
	}
}

func TestTagAndRemove(t *testing.T) {
	reg := imagetest.New(t)
	d, id := reg.Push(imagetest.Simple("base", "app"), "lib/app:1")
	r := newRig(t)
	ref := reg.Host() + "/lib/app"
	r.pull(ref + ":1")
	r.tag(ref+":1", "other")
	r.tag(id[7:20], "me/third:2")
	r.tag("other", "other") // to itself
	img := r.get("me/third:2")
	if img.ID != id || len(img.RepoTags) != 3 || len(img.Digests) != 1 {
		t.Errorf("image %+v", img)
	}
	r.conflict(id, false, "conflict: unable to delete "+short(id)+" (must be forced) - image is referenced in multiple repositories")
	if got := r.remove("other", false); !slices.Equal(got, []string{"Untagged: other:latest"}) {
		t.Errorf("removed %q", got)
	}
	if got := r.remove(ref+":1", false); !slices.Equal(got, []string{"Untagged: " + ref + ":1", "Untagged: " + ref + "@" + d.Digest.String()}) {
		t.Errorf("removed %q", got)
	}
	got := r.remove("me/third:2", false)
	if len(got) != 4 || got[0] != "Untagged: me/third:2" || got[1] != "Deleted: "+id || !strings.HasPrefix(got[2], "Deleted: sha256:") {
		t.Errorf("removed %q", got)
	}
	r.gone("other", "me/third:2", id, ref+":1")
	r.empty()
	if acts := r.actions(); !slices.Contains(acts, "tag "+id) || !slices.Contains(acts, "untag "+id) || acts[len(acts)-1] != "delete "+id {
		t.Errorf("events %q", acts)
	}
}

func TestRemoveByID(t *testing.T) {
	reg := imagetest.New(t)
	d, id := reg.Push(imagetest.Simple("base", "app"), "lib/app:1")
	d2, id2 := reg.Push(imagetest.Simple("base", "web"), "lib/web:1")
	r := newRig(t)
	app, web := reg.Host()+"/lib/app", reg.Host()+"/lib/web"
	r.pull(app + ":1")
	r.pull(web + ":1")
	// The base layer is shared: it stays for the other image.
	got := r.remove(id[7:15], false)
	want := []string{"Untagged: " + app + ":1", "Untagged: " + app + "@" + d.Digest.String(), "Deleted: " + id}
	if len(got) != 4 || !slices.Equal(got[:3], want) {
		t.Errorf("removed %q", got)
	}
	r.collect()
	if err := r.Prepare(t.Context(), r.get(web+":1"), "c"); err != nil {
		t.Errorf("the other image is broken: %v", err)
	}
	r.tag(web+":1", "copy")
	if got := r.remove(id2, true); len(got) != 6 || !slices.Contains(got, "Untagged: copy:latest") || !slices.Contains(got, "Untagged: "+web+"@"+d2.Digest.String()) {
		t.Errorf("removed %q", got)
	}
	r.gone(id, id2)
}

func TestRemoveInUse(t *testing.T) {
	reg := imagetest.New(t)
	_, id := reg.Push(imagetest.Simple("base"), "lib/app:1")
	r := newRig(t)
	ref := reg.Host() + "/lib/app:1"
	r.pull(ref)
	users := fakeUsers{id: {{ContainerID: ctr1}, {ContainerID: ctr2, Running: true}}}
	r.SetUsers(users)
	r.conflict(ref, false, `conflict: unable to remove repository reference "`+ref+`" (must force) - container `+ctr1[:12]+` is using its referenced image `+short(id))
	r.conflict(id, false, "conflict: unable to delete "+short(id)+" (cannot be forced) - image is being used by running container "+ctr2[:12])
	r.conflict(id, true, "conflict: unable to delete "+short(id)+" (cannot be forced) - image is being used by running container "+ctr2[:12])
	// One name of two goes without questions.
	r.tag(ref, "copy")
	if got := r.remove("copy", false); !slices.Equal(got, []string{"Untagged: copy:latest"}) {
		t.Errorf("removed %q", got)
	}
	// The last one goes by force, and the image stays for the running container.
	if got := r.remove(ref, true); len(got) != 2 || got[0] != "Untagged: "+ref {
		t.Errorf("removed %q", got)
	}
	r.collect()
	img := r.get(id)
	if len(img.RepoTags)+len(img.Digests) > 0 {
		t.Errorf("names %+v", img)
	}
	if err := r.Prepare(t.Context(), img, "c"); err != nil {
		t.Error(err)
	}
	users[id] = users[id][:1]
	r.conflict(id, false, "conflict: unable to delete "+short(id)+" (must be forced) - image is being used by stopped container "+ctr1[:12])
	if got := r.remove(id, true); !slices.Equal(got, []string{"Deleted: " + id}) {
		t.Errorf("removed %q", got)
	}
	// The stopped container's files are still there.
	r.collect()
	if f := r.files("c"); f["layer-0"] != "base" {
		t.Errorf("files %v", f)
	}
}

func TestRemoveUnknown(t *testing.T) {
	r := newRig(t)
	for ref, want := range map[string]string{"nosuch": "No such image: nosuch:latest", "cafe": "No such image: cafe:latest", someDigest: "No such image: " + someDigest} {
		if _, err := r.Remove(t.Context(), ref, true, true); !errors.Is(err, cnm.ErrNotFound) || err.Error() != want {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := r.Remove(t.Context(), "No/Good", true, true); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("a bad name: %v", err)
	}
}

// A record whose content is gone does not hide the others and can be removed.
func TestBrokenRecord(t *testing.T) {
	reg := imagetest.New(t)
	reg.Push(imagetest.Simple("base"), "lib/app:1")
	r := newRig(t)
	r.pull(reg.Host() + "/lib/app:1")
	ctx := r.ns(t.Context())
	d := images.Image{Name: "docker.io/library/broken:latest"}
	d.Target.MediaType, d.Target.Digest, d.Target.Size = images.MediaTypeDockerSchema2Manifest, digest.FromString("gone"), 4
	if _, err := r.client.ImageService().Create(ctx, d); err != nil {
		t.Fatal(err)
	}
	if list, err := r.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("list %v, %v", list, err)
	}
	if _, err := r.Get(t.Context(), "broken"); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
	if got := r.remove("broken", false); !slices.Equal(got, []string{"Untagged: broken:latest"}) {
		t.Errorf("removed %q", got)
	}
	r.gone("broken")
}

func TestPrune(t *testing.T) {
	reg := imagetest.New(t)
	r := newRig(t)
	ref := reg.Host() + "/lib/app:1"
	_, old := reg.Push(imagetest.Simple("base", "old"), "lib/app:1")
	r.pull(ref)
	_, used := reg.Push(imagetest.Simple("base", "used"), "lib/app:1")
	r.pull(ref)
	_, latest := reg.Push(imagetest.Simple("base", "new"), "lib/app:1")
	r.pull(ref)
	r.SetUsers(fakeUsers{used: {{ContainerID: ctr1}}})
	gone, n, err := r.Prune(context.Background(), PruneOptions{})
	if err != nil || n == 0 || !slices.Contains(removed(gone), "Deleted: "+old) {
		t.Errorf("pruned %v, %d bytes, %v", removed(gone), n, err)
	}
	r.gone(old)
	r.get(used)
	if _, _, err := r.Prune(t.Context(), PruneOptions{All: true, Match: func(*Image) bool { return false }}); err != nil {
		t.Error(err)
	}
	r.get(latest)
	if _, _, err := r.Prune(t.Context(), PruneOptions{All: true}); err != nil {
		t.Error(err)
	}
	r.gone(latest)
	r.get(used)
}
