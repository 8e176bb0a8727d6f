package linux

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// br_netfilter has what bridges switch pass the netfilter hooks of IP
// (net.bridge.bridge-nf-call-*). Its switches are on in every new namespace and
// cost a third of the packets between containers of one bridge; where nobody needs
// them, they can be off. A bridge of ours that does (icc=false) has its own flag.

const bridgeNFDir = "/proc/sys/net/bridge"

// BridgeNF says whether bridged IPv4 packets pass nftables in this kernel's
// namespace (kernel documentation, networking/bridge: br_netfilter). Without
// the module they do not.
//
// It is asked for every container, so the file stays open: opened inside, it goes on
// to mean this namespace, and reading it takes no thread that has to go there.
func (k *Kernel) BridgeNF() (on bool) {
	k.nfMu.Lock()
	defer k.nfMu.Unlock()
	for range 2 {
		if k.nfFile == nil {
			k.inHost(func() (err error) {
				k.nfFile, err = os.Open(bridgeNFDir + "/bridge-nf-call-iptables")
				return err
			})
		}
		if k.nfFile == nil {
			return false
		}
		var b [2]byte
		if n, err := k.nfFile.ReadAt(b[:], 0); n > 0 || err == nil {
			return b[0] == '1'
		}
		k.nfFile.Close() // the module went, and may be back
		k.nfFile = nil
	}
	return false
}

// BridgeNFUsers says who may need the switches in this namespace: bridges that are
// not ours, and settings that a person wrote down. Empty: they can be off.
func (k *Kernel) BridgeNFUsers(context.Context) ([]string, error) {
	rt, err := k.hostRTNL()
	if err != nil {
		return nil, err
	}
	defer rt.close()
	// The kernel filters by kind (rtnl_dump_ifinfo): a host with many containers has
	// thousands of other links.
	msgs, err := rt.dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), skipStats(),
		nest(unix.IFLA_LINKINFO, str(nl.IFLA_INFO_KIND, "bridge")))
	if err != nil {
		return nil, fmt.Errorf("list bridges: %w", err)
	}
	var users []string
	for _, m := range msgs {
		if l := parseLink(m); l.kind == "bridge" && !k.mine(l) && l.group != k.doom {
			users = append(users, "bridge "+l.name)
		}
	}
	for _, dir := range k.cfg.SysctlDirs {
		users = append(users, configured(dir)...)
	}
	return users, nil
}

// sysctlDirs are where sysctl(8) reads its settings from; a plain file counts as one.
var sysctlDirs = []string{"/etc/sysctl.conf", "/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"}

// configured are the settings files that turn a switch on.
func configured(path string) (files []string) {
	names, _ := filepath.Glob(filepath.Join(path, "*.conf"))
	for _, name := range append(names, path) {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
			line := strings.NewReplacer("/", ".", " ", "", "\t", "").Replace(strings.TrimLeft(s.Text(), " \t-"))
			if strings.HasPrefix(line, "net.bridge.bridge-nf-call-") && strings.HasSuffix(line, "=1") {
				files = append(files, name)
				break
			}
		}
	}
	return files
}

// needBridgeNF sees that br_netfilter is there for a bridge whose packets must pass
// the page: a kernel without it ignores the bridge's flag, and nothing would be
// closed. Loading the module turns the switches on for every bridge; as they were
// as good as off until now, they are set off.
func (k *Kernel) needBridgeNF(name string) error {
	there := func() bool {
		var err error
		k.inHost(func() error { _, err = os.Stat(bridgeNFDir); return nil })
		return !errors.Is(err, fs.ErrNotExist)
	}
	if there() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), nftTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "modprobe", "br_netfilter").CombinedOutput()
	if !there() {
		return fmt.Errorf("containers on %s cannot be kept apart, since the kernel module br_netfilter is missing (modprobe br_netfilter: %s %w)", name, words(string(out)), errors.Join(err, unix.ENOENT))
	}
	return k.inHost(func() error {
		var errs []error
		for _, f := range []string{"iptables", "ip6tables", "arptables"} {
			errs = append(errs, os.WriteFile(bridgeNFDir+"/bridge-nf-call-"+f, []byte("0"), 0))
		}
		return errors.Join(errs...)
	})
}
