package daemon

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// rtfAddrConf marks routes that the kernel made of router advertisements
// (RTF_ADDRCONF, linux/ipv6_route.h).
const rtfAddrConf = 0x00040000

// raLinks are the links of the daemon's namespace on which the kernel learns from
// router advertisements now, and would stop to when it forwards.
func raLinks(context.Context) ([]string, error) {
	b, err := os.ReadFile("/proc/net/ipv6_route")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no IPv6 here
	}
	if err != nil {
		return nil, err
	}
	// 1: unless it forwards; 0: not, or a network manager does it by itself; 2: always.
	return slices.DeleteFunc(learned(string(b)), func(link string) bool {
		v, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", link, "accept_ra"))
		return err != nil || !bytes.Equal(bytes.TrimSpace(v), []byte("1"))
	}), nil
}

// learned are the links of the routes in /proc/net/ipv6_route that were learned.
func learned(table string) (links []string) {
	for line := range strings.Lines(table) {
		w := strings.Fields(line)
		if len(w) != 10 {
			continue
		}
		flags, err := strconv.ParseUint(w[8], 16, 32)
		if err == nil && flags&rtfAddrConf != 0 && w[9] != "lo" && !slices.Contains(links, w[9]) {
			links = append(links, w[9])
		}
	}
	return links
}
