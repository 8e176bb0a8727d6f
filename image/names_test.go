package image

import (
	"errors"
	"strings"
	"testing"

	"linkspan/cnm"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"mysql":                       "docker.io/library/mysql:latest",
		"docker.io/mysql":             "docker.io/library/mysql:latest",
		"index.docker.io/library/m:1": "docker.io/library/m:1",
		"me/app":                      "docker.io/me/app:latest",
		"127.0.0.1:5000/app":          "127.0.0.1:5000/app:latest",
		"localhost/app:x":             "localhost/app:x",
		"quay.io/a/b/c:1.2":           "quay.io/a/b/c:1.2",
		"mysql@" + someDigest:         "docker.io/library/mysql@" + someDigest,
		"mysql:9@" + someDigest:       "docker.io/library/mysql@" + someDigest,
		"cafe":                        "docker.io/library/cafe:latest",
		strings.Repeat("a", 63):       "docker.io/library/" + strings.Repeat("a", 63) + ":latest",
		"[2001:db8::1]:5000/app:1":    "[2001:db8::1]:5000/app:1",
	} {
		got, err := parseName(in)
		if err != nil || got.String() != want {
			t.Errorf("%s: %v, %v; want %s", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "A", "a b", "a:", ":a", "a@sha256:12", "http://a/b", "a/../b", someDigest[7:], "-x"} {
		if got, err := parseName(bad); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "invalid reference format") {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

func TestIDs(t *testing.T) {
	if !isID(someDigest) || !isID(someDigest[7:]) || isID(someDigest[:70]) || isID("mysql") {
		t.Error("isID")
	}
	for ref, want := range map[string]bool{"0123": true, "sha256:01": true, "sha256:": false, "": false, "123": false, "01G": false, someDigest: true} {
		if got := hasIDPrefix(someDigest, ref); got != want {
			t.Errorf("%q: %v", ref, got)
		}
	}
	if got := short(someDigest); got != "0123456789ab" {
		t.Error(got)
	}
	if got := short("abc"); got != "abc" {
		t.Error(got)
	}
}

func TestNoSuchImage(t *testing.T) {
	for ref, want := range map[string]string{
		"x": "No such image: x:latest", "docker.io/library/x:1": "No such image: x:1", someDigest: "No such image: " + someDigest,
		"x@" + someDigest: "No such image: x@" + someDigest, "UPPER": "No such image: UPPER",
	} {
		if err := noSuchImage(ref); err.Error() != want || !errors.Is(err, cnm.ErrNotFound) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestFamiliar(t *testing.T) {
	for name, want := range map[string]string{
		"docker.io/library/mysql:latest": "mysql:latest", "docker.io/me/x@" + someDigest: "me/x@" + someDigest,
		danglingName(someDigest): "dangling@" + someDigest, "not a name": "not a name",
	} {
		if got := familiar(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"mysql", "a/b:c", "x@" + someDigest, "127.0.0.1:5000/a", "dangling@" + someDigest} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		named, err := parseName(in)
		if err != nil {
			return
		}
		// What is stored under a name is found under its short form again, and no
		// person can write a dangling name.
		again, err := parseName(familiar(named.String()))
		if err != nil || again.String() != named.String() {
			t.Errorf("%q: %s became %v, %v", in, named, again, err)
		}
		if isDangling(named.String()) {
			t.Errorf("%q is a dangling name", in)
		}
	})
}
