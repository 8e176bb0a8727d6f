package image

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"linkspan/cnm"
)

// The names in containerd's image store, all of which keep an image from
// garbage collection:
//
//	docker.io/library/mysql:latest       a tag
//	docker.io/library/mysql@sha256:…     what a pull found under that digest
//	dangling@sha256:…                    an image without a name, by its manifest
//
// A dangling name has no slash, a normalised one always has.
const danglingPrefix = "dangling@"

func danglingName(manifest digest.Digest) string { return danglingPrefix + manifest.String() }

func isDangling(name string) bool { return strings.HasPrefix(name, danglingPrefix) }

// parseName reads what a person calls an image: "mysql", "quay.io/a/b:1",
// "mysql@sha256:…". With tag and digest, the digest counts, as in Docker.
func parseName(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, cnm.Invalid("invalid reference format: %q is no image name: %w", ref, err)
	}
	if d, ok := named.(reference.Digested); ok {
		return reference.WithDigest(reference.TrimNamed(named), d.Digest())
	}
	return reference.TagNameOnly(named), nil
}

// familiar is the short form that people read: "mysql:latest".
func familiar(name string) string {
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		return reference.FamiliarString(named)
	}
	return name
}

// noSuchImage is Docker's answer to an unknown image; its CLI matches the words.
func noSuchImage(ref string) error {
	if named, err := parseName(ref); err == nil && !isID(ref) {
		ref = reference.FamiliarString(named)
	}
	return cnm.NotFound("No such image: %s", ref)
}

// isID says that ref is a whole image id, with or without "sha256:".
func isID(ref string) bool {
	hex := strings.TrimPrefix(ref, "sha256:")
	return len(hex) == 64 && isHex(hex)
}

func isHex(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdef") == "" }

// hasIDPrefix says that ref is the beginning of the id.
func hasIDPrefix(id, ref string) bool {
	hex := strings.TrimPrefix(ref, "sha256:")
	return isHex(hex) && strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), hex)
}

// short is an id as people see it: 12 hex digits.
func short(id string) string {
	id = id[strings.IndexByte(id, ':')+1:]
	return id[:min(12, len(id))]
}
