package config

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// metricsAddr reads what --metrics-addr takes: dockerd's host:port, or a unix socket.
func metricsAddr(s string) (string, error) {
	const say = "want 127.0.0.1:9323, :9323 for every address, or unix:///run/linkspan/metrics.sock"
	if s == "" {
		return "", nil
	}
	if path, ok := strings.CutPrefix(s, "unix://"); ok {
		switch {
		case !filepath.IsAbs(path):
			return "", fmt.Errorf("%s: the path of a unix socket begins with /; %s", s, say)
		case len(path) > maxSocketPath:
			return "", fmt.Errorf("%s: the path has %d bytes, and the kernel takes at most %d", s, len(path), maxSocketPath)
		}
		return "unix://" + filepath.Clean(path), nil
	}
	s = strings.TrimPrefix(s, "tcp://")
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is no address with a port; %s", s, say)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q is no port; %s", port, say)
	}
	return net.JoinHostPort(host, port), nil
}
