package docker

import (
	"fmt"
	"strconv"
	"strings"

	"linkspan/cnm"
)

// Version is a version of the Engine API, "1.41".
type Version struct{ Major, Minor int }

// The versions that are spoken. 1.51 is the last that carries the flat fields
// of NetworkSettings (Gateway, IPAddress, …), which so much software reads;
// 1.24 is where dockerd's own support ended for years.
var (
	MaxVersion = Version{1, 51}
	MinVersion = Version{1, 24}
)

// String is the version as it stands in a path, without "v".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Before says that v is older than 1.minor.
func (v Version) Before(minor int) bool { return v.less(Version{1, minor}) }

func (v Version) less(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// parseVersion reads the digits and dots of a path's prefix; ok is false if
// there is anything else. A number too large to hold is the largest that can.
func parseVersion(s string) (v Version, ok bool) {
	if s == "" || strings.Trim(s, "0123456789.") != "" {
		return v, false
	}
	parts := strings.Split(s, ".")
	for i, to := range []*int{&v.Major, &v.Minor} {
		if i >= len(parts) || parts[i] == "" {
			continue
		}
		n, err := strconv.ParseInt(parts[i], 10, 32)
		if err != nil {
			n = 1<<31 - 1
		}
		*to = int(n)
	}
	return v, true
}

// negotiate takes the version prefix off a path. Paths without one speak the
// newest version. The words of the errors are dockerd's: clients match them.
func negotiate(path string) (Version, string, error) {
	prefix, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !strings.HasPrefix(prefix, "v") {
		return MaxVersion, path, nil
	}
	v, ok := parseVersion(prefix[1:])
	if !ok {
		return MaxVersion, path, nil
	}
	asked := prefix[1:]
	switch {
	case v.less(MinVersion):
		return v, "", cnm.Invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", asked, MinVersion)
	case MaxVersion.less(v):
		return v, "", cnm.Invalid("client version %s is too new. Maximum supported API version is %s", asked, MaxVersion)
	}
	return v, "/" + rest, nil
}
