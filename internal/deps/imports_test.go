package deps

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// rule limits what the packages of who may import. Test files are free: they
// build worlds.
type rule struct {
	who    []string
	except []string // of who
	// may, when not nil, is all of this module that they may import.
	may []string
	// never are imports of anyone's that are forbidden, also through others of
	// this module when deep is set.
	never []string
	deep  bool
	// stdOnly forbids everything outside of this module and the standard library.
	stdOnly bool
	why     string
}

var (
	kernelLibraries = []string{"github.com/vishvananda/...", "github.com/google/nftables/...", "github.com/mdlayher/...", "github.com/ti-mo/..."}
	containerd      = []string{"github.com/containerd/containerd/..."}
	moby            = []string{"github.com/moby/moby/...", "github.com/docker/..."}
	bolt            = []string{"go.etcd.io/bbolt/..."}
	etcd            = []string{"go.etcd.io/etcd/...", "go.uber.org/zap/..."}
	// worlds are made for tests only.
	worlds = []string{"internal/golden", "internal/testlog", "internal/testmain", "dataplane/dptest", "driver/drivertest", "store/storetest", "internal/lab/...", "internal/ctdtest",
		"internal/daemontest", "internal/worldtest", "image/imagetest", "test/..."}
)

var rules = []rule{
	{who: []string{"cnm"}, may: []string{}, stdOnly: true,
		why: "the model touches nothing, so that everyone can know it"},
	{who: []string{"events"}, may: []string{"cnm"}, stdOnly: true,
		why: "everyone tells events"},
	{who: []string{"driver"}, may: []string{"cnm", "dataplane", "probe"}, stdOnly: true,
		why: "the contract must be small enough to write a driver against it alone"},
	{who: []string{"driver/*"}, except: []string{"driver/drivertest"}, may: []string{"driver", "driver/segment", "cnm", "dataplane", "probe"},
		never: slices.Concat(kernelLibraries, containerd, moby, bolt),
		why:   "a driver is a pure planner: it knows the contract and never the controller, the store, the kernel, the doors or a sibling"},
	{who: []string{"dataplane"}, may: []string{"cnm"}, stdOnly: true,
		why: "kernel objects are data"},
	{who: []string{"dataplane/diff"}, may: []string{"dataplane", "cnm"}, stdOnly: true,
		why: "the diff is pure"},
	{who: []string{"dataplane/linux"}, may: []string{"dataplane", "dataplane/diff", "dataplane/nfnl", "netns", "cnm", "probe"},
		why: "who applies knows objects, not why they are wished"},
	{who: []string{"dataplane/ruleset"}, may: []string{}, stdOnly: true,
		why: "what a ruleset does with a packet is told without a kernel"},
	{who: []string{"dataplane/reading"}, may: []string{"dataplane/ruleset"}, stdOnly: true,
		why: "what the kernel says is data"},
	{who: []string{"dataplane/live", "dataplane/tap", "dataplane/nfnl"}, may: []string{"dataplane", "dataplane/reading", "dataplane/ruleset", "dataplane/nfnl", "netns"},
		why: "who reads the kernel knows nothing of what is wished"},
	{who: []string{"netns"}, may: []string{"cnm", "probe"},
		why: "namespaces are handed over as paths and descriptors, whoever asks"},
	{who: []string{"ipam", "publish", "policy", "dns"}, may: []string{"cnm"}, never: slices.Concat(kernelLibraries, containerd, moby, bolt),
		why: "a service of the controller knows the model only, and is tested without a kernel"},
	{who: []string{"store"}, may: []string{"cnm"}, stdOnly: true,
		why: "the store's contract is five methods"},
	{who: []string{"store/..."}, except: []string{"store"}, may: []string{"store", "store/internal/...", "cnm"},
		why: "a store keeps bytes and knows no one's objects"},
	{who: []string{"wireguard/..."}, may: []string{"cnm", "probe", "wireguard/..."}, never: slices.Concat(kernelLibraries, containerd, moby, bolt),
		why: "tunnels know keys and peers, not what goes through them; the device's link, addresses and routes are the data plane's (wgctrl, which speaks WireGuard's own netlink family, is allowed)"},
	{who: []string{"keeper/..."}, may: []string{"cnm", "dns", "netns", "probe", "wireguard", "wireguard/userspace", "keeper/..."}, never: slices.Concat(kernelLibraries, containerd, moby, bolt), deep: true,
		why: "what outlives the daemon has no policy, no store and no netlink: it must hardly ever need a new version (wireguard-go's tun package, which hears on a netlink socket whether its device is up, is allowed)"},
	{who: []string{"network/..."}, may: []string{"network/...", "cnm", "dataplane", "dataplane/diff", "driver", "events", "ipam", "keeper", "publish", "policy", "dns", "mesh", "store", "netns", "probe"},
		never: slices.Concat(kernelLibraries, containerd, moby, bolt),
		why:   "the controller knows contracts: of the drivers, of the kernel, of the store; never one that implements them, a container or a door"},
	{who: []string{"image/...", "volume/..."}, except: []string{"image/imagetest"}, never: slices.Concat(kernelLibraries, bolt, []string{"api/...", "network/...", "container/...", "driver/...", "dataplane/...", "store/*"}),
		why: "images and volumes know nothing of networks, nor who uses them"},
	{who: []string{"container/..."}, never: slices.Concat(kernelLibraries, bolt, []string{"api/...", "driver/...", "dataplane/linux", "store/*"}),
		why: "containers ask the controller's interface for their network"},
	{who: []string{"api/..."}, never: slices.Concat(kernelLibraries, bolt, []string{"dataplane/linux", "dataplane/diff", "driver/*", "store/...", "keeper/...", "netns"}),
		why: "a door translates: what it does besides would be missing behind the other doors"},
	{who: []string{"diagnose/..."}, never: slices.Concat(kernelLibraries, bolt, []string{"api/...", "store/*", "driver/*", "dataplane/linux", "dataplane/live", "dataplane/tap"}),
		why: "who explains reads through interfaces that cannot change anything"},
	{who: []string{"mesh"}, may: []string{"store", "cnm", "ipam"}, stdOnly: true,
		why: "the common truth is told over any store: it knows no etcd, no kernel, no controller"},
	{who: []string{"mesh/trust"}, may: []string{"store", "cnm"}, stdOnly: true,
		why: "whom a mesh trusts is told by certificates and a store: it can be read in one sitting"},
	{who: []string{"mesh/*"}, never: slices.Concat(kernelLibraries, containerd, moby, bolt, []string{"api/...", "network/...", "container/...", "image/...", "driver/*", "dataplane/linux"}),
		why: "what makes a host a member knows no networks, and serves no door but its own"},
	{who: []string{"config/..."}, may: []string{"cnm", "config/..."}, why: "the configuration is read before anything else is made"},

	{who: []string{"..."}, except: []string{"dataplane/linux", "dataplane/live", "dataplane/tap", "dataplane/nfnl", "netns", "internal/lab/...", "test/..."}, never: kernelLibraries,
		why: "only the data plane's own and netns speak netlink: all else declares"},
	{who: []string{"..."}, except: []string{"store/bolt"}, never: bolt,
		why: "one store behind five methods, so that etcd can take its place"},
	{who: []string{"..."}, except: []string{"store/etcd/..."}, never: etcd,
		why: "etcd is one store among others, and the member that runs here is a server with a handful of verbs"},
	{who: []string{"..."}, except: []string{"mesh/host", "daemon", "test/...", "internal/...", "bench/..."}, never: []string{"store/etcd/server"},
		why: "who makes a host a member of a mesh runs the member"},
	{who: []string{"..."}, except: []string{"container/...", "image/...", "containerd/...", "daemon", "internal/ctdtest", "test/..."}, never: containerd,
		why: "containerd is known to those who run containers and keep images"},
	{who: []string{"..."}, except: []string{"api/...", "container/...", "image/...", "volume/...", "daemon", "cmd/...", "internal/daemontest", "test/..."}, never: []string{"github.com/moby/moby/..."},
		why: "Docker's API types are a door's: the model is our own"},
	{who: []string{"..."}, never: []string{"cmd/..."},
		why: "cmd is wiring only"},
	{who: []string{"..."}, except: append([]string{"probe"}, worlds...), never: append([]string{"testing"}, worlds...),
		why: "what is made for tests stays out of the binary"},
	{who: []string{"..."}, except: []string{"daemon", "mesh/host", "cmd/...", "test/...", "internal/...", "bench/...", "driver/drivertest"}, never: []string{"store/bolt", "store/mem", "store/etcd", "dataplane/linux", "dataplane/live", "dataplane/tap"},
		why: "only the daemon's wiring chooses an implementation"},
	{who: []string{"..."}, except: []string{"cmd/...", "driver/*", "test/...", "internal/..."}, never: []string{"driver/*"},
		why: "only cmd chooses the drivers: one line for each"},
	{who: []string{"..."}, except: []string{"cmd/...", "test/..."}, never: []string{"daemon"},
		why: "nobody is wired into the wiring"},
	{who: []string{"..."}, except: []string{"dataplane/linux", "dataplane/live", "dataplane/tap", "dataplane/nfnl", "netns", "test/..."}, never: []string{"unsafe", "C"},
		why: "only who speaks to the kernel may need it; the binary is built without cgo"},
}

// check returns what breaks a rule.
func (tr *tree) check(rules []rule) []string {
	direct := map[string]map[string]string{} // package to import to a file that has it
	for _, f := range tr.files {
		if f.test {
			continue
		}
		if direct[f.dir] == nil {
			direct[f.dir] = map[string]string{}
		}
		for _, imp := range f.imports {
			direct[f.dir][imp] = f.name
		}
	}
	var broken []string
	for _, r := range rules {
		for _, pkg := range slices.Sorted(maps.Keys(direct)) {
			if !(r.who[0] == "..." || matchAny(r.who, pkg)) || matchAny(r.except, pkg) {
				continue
			}
			say := func(imp, where, how string) {
				broken = append(broken, fmt.Sprintf("%s %s %s (%s)\n\t%s", pkg, how, imp, where, r.why))
			}
			for imp, where := range direct[pkg] {
				ours := tr.isOurs(imp)
				switch {
				case matchAny(r.never, imp) && imp != pkg:
					say(imp, where, "imports")
				case ours && r.may != nil && !matchAny(r.may, imp):
					say(imp, where, "imports")
				case r.stdOnly && !ours && !tr.isStd(imp):
					say(imp, where, "imports")
				}
			}
			if r.deep {
				for imp, by := range reach(direct, pkg) {
					if matchAny(r.never, imp) {
						say(imp, by, "reaches")
					}
				}
			}
		}
	}
	slices.Sort(broken)
	return slices.Compact(broken)
}

// reach are the imports of those that pkg imports, and so on, each with who
// imports it.
func reach(direct map[string]map[string]string, pkg string) map[string]string {
	found := map[string]string{}
	todo := []string{pkg}
	for seen := map[string]bool{pkg: true}; len(todo) > 0; {
		p := todo[0]
		todo = todo[1:]
		for imp := range direct[p] {
			if p != pkg {
				found[imp] = "through " + p
			}
			if direct[imp] != nil && !seen[imp] {
				seen[imp] = true
				todo = append(todo, imp)
			}
		}
	}
	return found
}

func TestImports(t *testing.T) {
	for _, b := range repo(t).check(rules) {
		t.Error(b)
	}
}

// TestNames: a package is one noun that an operator knows.
func TestNames(t *testing.T) {
	for _, pkg := range repo(t).packages() {
		for _, part := range strings.Split(pkg, "/") {
			switch part {
			case "util", "utils", "common", "helper", "helpers", "types", "misc", "base", "shared", "lib", "pkg":
				t.Errorf("package %s: %q says nothing about what is in it", pkg, part)
			}
		}
	}
}

// TestCheck: the rules find what breaks them.
func TestCheck(t *testing.T) {
	build := func(files map[string]string) *tree {
		tr, fset := &tree{}, repo(t).fset
		for name, imports := range files {
			src := "package x\n"
			for imp := range strings.FieldsSeq(imports) {
				src += fmt.Sprintf("import _ %q\n", imp)
			}
			f, err := parseFile(fset, name, []byte(src))
			if err != nil {
				t.Fatal(err)
			}
			tr.files = append(tr.files, f)
		}
		// What they import is there.
		for _, p := range []string{"cnm", "driver", "driver/host", "dataplane", "dataplane/linux", "store", "store/bolt", "store/mem", "network", "api/docker", "cmd/linkspan", "dataplane/dptest"} {
			tr.files = append(tr.files, file{name: p + "/x.go", dir: p})
		}
		return tr
	}
	for _, c := range []struct {
		file, imports string
		broken        string // part of the answer; empty: allowed
	}{
		{"cnm/a.go", "fmt net/netip", ""},
		{"cnm/a.go", "linkspan/store", "cnm imports store"},
		{"cnm/a.go", "golang.org/x/sys/unix", "cnm imports golang.org/x/sys/unix"},
		{"cnm/a_test.go", "linkspan/store github.com/google/go-cmp/cmp", ""},
		{"driver/bridge/a.go", "linkspan/driver linkspan/cnm linkspan/dataplane", ""},
		{"driver/bridge/a.go", "linkspan/network", "driver/bridge imports network"},
		{"driver/bridge/a.go", "linkspan/store", "driver/bridge imports store"},
		{"driver/bridge/a.go", "linkspan/driver/host", "driver/bridge imports driver/host"},
		{"driver/bridge/a.go", "github.com/vishvananda/netlink", "a pure planner"},
		{"driver/drivertest/a.go", "linkspan/dataplane/dptest testing", ""},
		{"dataplane/linux/a.go", "github.com/vishvananda/netlink github.com/google/nftables", ""},
		{"netns/a.go", "github.com/vishvananda/netlink/nl", ""},
		{"probe/a.go", "github.com/google/nftables", "only the data plane's own and netns speak netlink"},
		{"keeper/a.go", "github.com/mdlayher/netlink", "hardly ever need a new version"},
		{"container/a.go", "linkspan/api/docker", "container imports api/docker"},
		{"container/sub/a.go", "linkspan/store/bolt", "container/sub imports store/bolt"},
		{"container/a.go", "linkspan/store github.com/containerd/containerd/v2/client", ""},
		{"network/a.go", "linkspan/dataplane/linux", "network imports dataplane/linux"},
		{"network/a.go", "github.com/moby/moby/api/types/network", "the model is our own"},
		{"api/admin/a.go", "linkspan/cmd/linkspan", "cmd is wiring only"},
		{"cmd/linkspan/a.go", "linkspan/store/bolt linkspan/dataplane/linux linkspan/driver/host", ""},
		{"network/a.go", "linkspan/dataplane/dptest", "stays out of the binary"},
		{"publish/a.go", "testing", "stays out of the binary"},
		{"store/etcd/a.go", "linkspan/store/bolt", "store/etcd imports store/bolt"},
		{"mesh/a.go", "linkspan/network", "mesh imports network"},
		{"mesh/trust/a.go", "linkspan/store crypto/x509", ""},
		{"mesh/trust/a.go", "golang.org/x/crypto/ssh", "mesh/trust imports golang.org/x/crypto/ssh"},
		{"mesh/a.go", "go.etcd.io/etcd/client/v3", "etcd is one store among others"},
		{"store/etcd/server/a.go", "go.etcd.io/etcd/client/v3 go.uber.org/zap", ""},
		{"network/a.go", "unsafe", "without cgo"},
	} {
		got := strings.Join(build(map[string]string{c.file: c.imports}).check(rules), "\n")
		if c.broken == "" && got != "" || c.broken != "" && !strings.Contains(got, c.broken) {
			t.Errorf("%s with %s:\n%s\nwant %q", c.file, c.imports, got, c.broken)
		}
	}
	got := build(map[string]string{"keeper/a.go": "linkspan/netns", "netns/a.go": "github.com/vishvananda/netlink"}).check(rules)
	if len(got) != 1 || !strings.Contains(got[0], "keeper reaches github.com/vishvananda/netlink (through netns)") {
		t.Errorf("through another: %q", got)
	}
}
