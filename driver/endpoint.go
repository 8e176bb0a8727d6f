package driver

import (
	"fmt"
	"strings"
)

// Options that every driver with interfaces has, spelt as Docker's.
const (
	// OptIfPrefix of a network: how its interfaces' names begin ("lan").
	OptIfPrefix = "com.docker.network.container_iface_prefix"
	// OptIfName of an endpoint: its interface's whole name.
	OptIfName = "com.docker.network.endpoint.ifname"
)

// CheckLinkName holds a device name to the kernel's rules (dev_valid_name).
func CheckLinkName(s string) error {
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r%") {
		return fmt.Errorf("%q is no device name: 1 to 15 characters without slash, colon, percent sign or space", s)
	}
	return nil
}
