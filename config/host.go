package config

import (
	"path/filepath"
	"strings"

	"linkspan/cnm"
)

// Host is a socket that the API listens on.
type Host struct {
	// Proto is "unix" or "fd" (a socket that systemd opened).
	Proto string
	// Addr is the path of a unix socket; for fd, the name or number of the passed
	// descriptor, or "" for all of them.
	Addr string
}

func (h Host) String() string { return h.Proto + "://" + h.Addr }

// maxSocketPath is sun_path in unix(7), 108 bytes with the zero at the end.
const maxSocketPath = 107

// parseHost reads what -H takes.
func parseHost(s string) (Host, error) {
	proto, addr, ok := strings.Cut(strings.TrimSpace(s), "://")
	if !ok {
		if filepath.IsAbs(s) {
			return Host{}, cnm.Invalid("invalid bind address (%s): write it as unix://%s", s, s)
		}
		proto, addr = "tcp", s // as dockerd reads it
	}
	switch proto {
	case "unix":
		// "unix://" alone is the default socket: settle fills it in.
		if addr != "" && !filepath.IsAbs(addr) {
			return Host{}, cnm.Invalid("invalid bind address (%s): the path of a unix socket begins with /", s)
		}
		if len(addr) > maxSocketPath {
			return Host{}, cnm.Invalid("invalid bind address (%s): the path has %d bytes, and the kernel takes at most %d", s, len(addr), maxSocketPath)
		}
		if addr != "" {
			addr = filepath.Clean(addr)
		}
		return Host{"unix", addr}, nil
	case "fd":
		return Host{"fd", addr}, nil
	case "tcp":
		return Host{}, cnm.Unsupported("not yet: listening on %s; the API over TCP with TLS client certificates belongs to later work. "+
			"From another machine, use the unix socket through ssh: docker -H ssh://user@host", s)
	}
	return Host{}, cnm.Invalid("invalid bind address (%s): use unix:///path or fd://", s)
}
