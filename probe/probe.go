// Package probe finds out what this machine can do by trying it, never by kernel
// version: new kernels can lack what old ones had. Each answer has a reason and a
// cure. Tests that need a feature skip through Require and through nothing else.
package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Feature is one thing that a machine can do or not.
type Feature struct {
	Name string
	// For says what of Linkspan needs it.
	For string
	// Cure says what a person can do when it is not there.
	Cure string
	try  func() error
}

// Missing is a feature that is not there.
type Missing struct {
	Feature Feature
	Reason  error
}

func (m *Missing) Error() string {
	return fmt.Sprintf("%s is not available: %v (needed for %s; %s)", m.Feature.Name, m.Reason, m.Feature.For, m.Feature.Cure)
}

func (m *Missing) Unwrap() error { return m.Reason }

// Check tries the feature, in namespaces of its own: nothing stays behind. The
// error is a *Missing.
func (f Feature) Check() error {
	if err := f.try(); err != nil {
		return &Missing{f, plain(err)}
	}
	return nil
}

// Result is one line of a report.
type Result struct {
	Feature Feature
	Err     error // nil: it is there
}

// All tries every feature.
func All() []Result {
	var out []Result
	for _, f := range []Feature{Root, NetNS, Veth, Bridge, NFT, NFTProgram, Conntrack, NFLog, BridgeNetfilter, IPv6, VXLAN, WireGuard, TUN, SCTP, Overlayfs, Containerd, Runc} {
		out = append(out, Result{f, f.Check()})
	}
	return out
}

// Skipper is the part of testing.TB that Require uses.
type Skipper interface {
	Helper()
	Skipf(format string, args ...any)
}

// Require skips the test unless all features are there, and prints why.
func Require(t Skipper, features ...Feature) {
	t.Helper()
	for _, f := range features {
		if err := f.Check(); err != nil {
			t.Skipf("probe: %v", err)
		}
	}
}

// The features.
var (
	Root = Feature{"root", "everything that touches the kernel", "run as root (sudo)", tryRoot}

	NetNS = Feature{"network namespaces", "sandboxes", "needs CAP_SYS_ADMIN and CONFIG_NET_NS",
		func() error { return inNew(func() error { return nil }) }}

	Veth = Feature{"veth", "bridge networks", "load the module veth (CONFIG_VETH)",
		func() error { return inNew(func() error { return makeLink("veth") }) }}

	Bridge = Feature{"bridge", "bridge networks", "load the module bridge (CONFIG_BRIDGE)",
		func() error { return inNew(func() error { return makeLink("bridge") }) }}

	NFT = Feature{"nftables", "published ports, SNAT and isolation", "load the module nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)",
		func() error { return inNew(makeTable) }}

	NFTProgram = Feature{"the nft program", "loading the firewall page", "apt install nftables", program("nft")}

	Conntrack = Feature{"connection tracking", "published ports and SNAT", "load the module nf_conntrack (CONFIG_NF_CT_NETLINK)",
		func() error { return inNew(dumpConntrack) }}

	NFLog = Feature{"packet logging (NFLOG)", "telling which packets were dropped (linkspan drops)", "load the module nfnetlink_log (CONFIG_NETFILTER_NETLINK_LOG)",
		func() error { return inNew(bindLog) }}

	BridgeNetfilter = Feature{"bridge-netfilter", "hosts where another engine filters bridged packets by iptables", "load the module br_netfilter",
		func() error {
			return inNew(func() error { return exists("/proc/sys/net/bridge/bridge-nf-call-iptables") })
		}}

	IPv6 = Feature{"IPv6", "IPv6 networks and publishing on [::]", "boot without ipv6.disable=1",
		func() error { return inNew(func() error { return exists("/proc/sys/net/ipv6/conf/all/disable_ipv6") }) }}

	VXLAN = Feature{"VXLAN", "networks that span hosts", "load the module vxlan (CONFIG_VXLAN)",
		func() error { return inNew(tryVXLAN) }}

	WireGuard = Feature{"WireGuard in the kernel", "encrypted networks at full speed; without it the keeper encrypts in user space", "load the module wireguard (CONFIG_WIREGUARD)",
		func() error { return inNew(func() error { return makeLink("wireguard") }) }}

	TUN = Feature{"TUN devices", "encrypted networks where the kernel has no WireGuard", "load the module tun (CONFIG_TUN)",
		func() error { return inNew(makeTUN) }}

	SCTP = Feature{"SCTP", "publishing SCTP ports of programs on this host", "load the module sctp",
		func() error { return socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP) }}

	Overlayfs = Feature{"overlayfs", "container file systems", "load the module overlay", tryOverlay}

	Containerd = Feature{"the containerd program", "running containers", "apt install containerd", program("containerd")}

	// Browser is for tests alone, and no part of All.
	Browser = Feature{"a headless browser", "the test of the web page", "apt install chromium-headless-shell", program("chromium-headless-shell")}

	// Tcpdump is for tests alone too.
	Tcpdump = Feature{"the tcpdump program", "tests that look at the wire", "apt install tcpdump", program("tcpdump")}

	// Etcd is for tests alone too: the engine has its own.
	Etcd = Feature{"the etcd program", "the test with an etcd that is not ours", "apt install etcd-server", program("etcd")}

	// DockerCLI is for tests alone too: the engine needs none.
	DockerCLI = Feature{"the docker program", "tests of the API with the unmodified CLI", "apt install docker.io", program("docker")}

	Runc = Feature{"the runc program", "running containers", "apt install runc", program("runc")}
)

func program(name string) func() error {
	return func() error {
		_, err := exec.LookPath(name)
		return err
	}
}

// plain shortens what the standard library says.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no %s here", pe.Path)
	}
	var xe *exec.Error
	if errors.As(err, &xe) {
		return fmt.Errorf("no %s in PATH", strings.TrimSpace(xe.Name))
	}
	return err
}
