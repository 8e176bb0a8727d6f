package spec

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"linkspan/cnm"
)

// Security is the decoded form of --security-opt.
type Security struct {
	// Seccomp is "" for the default profile, "unconfined", or a profile's JSON.
	Seccomp         string
	NoNewPrivileges bool
}

// Unconfined is the word that switches seccomp off.
const Unconfined = "unconfined"

// ParseSecurity decodes --security-opt. defaults hold the daemon's own wishes
// (--no-new-privileges, --seccomp-profile already read into JSON).
func ParseSecurity(opts []string, defaults Security) (Security, error) {
	s := defaults
	for _, o := range opts {
		if o == "no-new-privileges" {
			s.NoNewPrivileges = true
			continue
		}
		// Docker split at ":" before it split at "=", and takes both.
		k, v, ok := strings.Cut(o, "=")
		if !ok {
			k, v, ok = strings.Cut(o, ":")
		}
		if !ok {
			return s, cnm.Invalid("invalid --security-opt 1: %q", o)
		}
		switch k {
		case "no-new-privileges":
			b, err := strconv.ParseBool(v)
			if err != nil {
				return s, cnm.Invalid("invalid --security-opt 2: %q", o)
			}
			s.NoNewPrivileges = b
		case "seccomp":
			switch v {
			case "builtin":
				s.Seccomp = ""
			case Unconfined:
				s.Seccomp = Unconfined
			default:
				if !json.Valid([]byte(v)) {
					return s, cnm.Invalid("Decoding seccomp profile failed: the value of seccomp= is not JSON (the docker client reads the file and sends its content)")
				}
				s.Seccomp = v
			}
		case "apparmor":
			if v != Unconfined {
				return s, cnm.Unsupported("--security-opt apparmor=%s is not supported yet: Linkspan loads no AppArmor profiles; apparmor=unconfined is taken", v)
			}
		case "label":
			if v != "disable" {
				return s, cnm.Unsupported("--security-opt label=%s is not supported yet: Linkspan sets no SELinux labels; label=disable is taken", v)
			}
		default:
			return s, cnm.Invalid("invalid --security-opt 2: %q", o)
		}
	}
	return s, nil
}

// SeccompFile reads a daemon-wide profile for Security.Seccomp: "" and
// "builtin" are the default, "unconfined" is none.
func SeccompFile(path string) (string, error) {
	switch path {
	case "", "builtin":
		return "", nil
	case Unconfined:
		return Unconfined, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", cnm.Invalid("opening seccomp profile (%s) failed: %w", path, err)
	}
	if !json.Valid(b) {
		return "", cnm.Invalid("seccomp profile %s is not JSON", path)
	}
	return string(b), nil
}

// applySeccomp must follow the capabilities: the default profile allows more
// system calls to whoever has the capability for them.
func applySeccomp(s *specs.Spec, in *Input) (err error) {
	switch {
	case in.HostConfig.Privileged || in.Security.Seccomp == Unconfined:
		return nil
	case in.Security.Seccomp == "":
		s.Linux.Seccomp, err = seccomp.GetDefaultProfile(s)
	default:
		s.Linux.Seccomp, err = seccomp.LoadProfile(in.Security.Seccomp, s)
	}
	if err != nil {
		return cnm.Invalid("seccomp profile: %w", err)
	}
	return nil
}
