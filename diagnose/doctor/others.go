package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// programs that make networks or firewalls, by the name of their process (15 bytes
// at most, proc_pid_comm(5)).
var programs = []struct {
	comm, what, does string
}{
	{"dockerd", "Docker", "It sets the FORWARD policy of iptables to DROP and turns bridge-nf on."},
	{"netavark", "Podman's netavark", "It has a firewall table of its own."},
	{"conmon", "Podman", "Its networks have a firewall table of their own (netavark) or iptables rules (CNI)."},
	{"kubelet", "Kubernetes", "kube-proxy and the CNI plugin write iptables or nftables rules for forwarded packets, and rely on bridge-nf."},
	{"k3s-server", "k3s", "Its kube-proxy and flannel write iptables rules for forwarded packets, and rely on bridge-nf."},
	{"crio", "CRI-O", "Its CNI plugins write iptables rules."},
	{"libvirtd", "libvirt", "Its networks (virbr0) reject forwarded packets that they do not know, on their own bridges."},
	{"virtnetworkd", "libvirt", "Its networks (virbr0) reject forwarded packets that they do not know, on their own bridges."},
	{"lxd", "LXD", "Its bridges have rules of their own."},
	{"incusd", "Incus", "Its bridges have rules of their own."},
}

// processes are the names of all processes in our network namespace, with one pid
// each. Whose namespace cannot be read counts as here.
func (w *ward) processes() map[string]string {
	found := map[string]string{}
	dirs, err := fs.ReadDir(w.Host, "proc")
	if err != nil {
		return found
	}
	for _, d := range dirs {
		if strings.Trim(d.Name(), "0123456789") != "" {
			continue
		}
		comm := w.line("proc/" + d.Name() + "/comm")
		if comm == "" || found[comm] != "" {
			continue
		}
		if ns, err := fs.ReadLink(w.Host, "proc/"+d.Name()+"/ns/net"); err == nil && w.Machine.Namespace != "" && ns != w.Machine.Namespace {
			continue
		}
		found[comm] = d.Name()
	}
	return found
}

// engines are others on this host. None of them is wrong; each explains things.
func (w *ward) engines(context.Context) {
	running := w.processes()
	said := map[string]bool{}
	for _, p := range programs {
		if pid := running[p.comm]; pid != "" && !said[p.what] {
			said[p.what] = true
			w.say(Note, "other-engine", fmt.Sprintf("%s runs on this host, too (%s, pid %s)", p.what, p.comm, pid),
				p.does+" Linkspan leaves it alone, and chooses subnets beside its own.", "")
		}
	}
	if len(said) == 0 {
		w.ok("engines", "no other container or virtual machine engine runs in this network namespace")
	}
	for _, b := range [][2]string{{"virbr0", "libvirt"}, {"lxdbr0", "LXD"}, {"incusbr0", "Incus"}, {"cni0", "a CNI plugin"}, {"podman0", "Podman"}, {"cni-podman0", "Podman"}} {
		if !said[b[1]] && w.exists("sys/class/net/"+b[0]) {
			w.say(Note, "other-bridge", fmt.Sprintf("bridge %s is there (of %s)", b[0], b[1]), "While somebody else has a bridge, bridge-nf is left as it is.", "")
		}
	}
}

// managers of links that may take our veths for a card that wants an address
// (moby#49653: connman; NetworkManager and dhcpcd likewise).
func (w *ward) managers(context.Context) {
	running := w.processes()
	if pid := running["NetworkManager"]; pid != "" && !w.mentions([]string{"etc/NetworkManager/NetworkManager.conf", "etc/NetworkManager/conf.d/*.conf", "usr/lib/NetworkManager/conf.d/*.conf", "run/NetworkManager/conf.d/*.conf"}, "unmanaged-devices", "veth") {
		w.say(Note, "manager-networkmanager", fmt.Sprintf("NetworkManager runs (pid %s), and nothing tells it to leave veth devices alone", pid),
			"It leaves links alone that others made, unless a connection profile without an interface name fits them: then it gives them addresses by DHCP.",
			`printf '[keyfile]\nunmanaged-devices=interface-name:veth*;type:bridge\n' > /etc/NetworkManager/conf.d/90-linkspan.conf && nmcli general reload`)
	}
	if pid := running["connmand"]; pid != "" && !w.mentions([]string{"etc/connman/main.conf"}, "NetworkInterfaceBlacklist", "veth") {
		w.say(Warning, "manager-connman", fmt.Sprintf("connman runs (pid %s), and its NetworkInterfaceBlacklist does not name veth", pid),
			"It takes the host's end of each container for a card: it sets addresses on it and may move the default route.",
			`printf '[General]\nNetworkInterfaceBlacklist=vmnet,vboxnet,virbr,ifb,ve-,vb-,docker,br-,veth\n' > /etc/connman/main.conf && systemctl restart connman`)
	}
	if pid := running["dhcpcd"]; pid != "" && !w.mentions([]string{"etc/dhcpcd.conf"}, "denyinterfaces", "veth") && !w.mentions([]string{"etc/dhcpcd.conf"}, "allowinterfaces", "") {
		w.say(Warning, "manager-dhcpcd", fmt.Sprintf("dhcpcd runs (pid %s) for every interface, veth devices too", pid),
			"It gives the host's end of containers addresses of 169.254.0.0/16, and routes with them.",
			"echo 'denyinterfaces veth* docker* br-*' >> /etc/dhcpcd.conf && systemctl restart dhcpcd")
	}
	if pid := running["systemd-network"]; pid != "" {
		for _, f := range w.greedyUnits() {
			w.say(Warning, "manager-networkd", fmt.Sprintf("systemd-networkd runs (pid %s), and %s matches veth devices", pid, f),
				"It takes over addresses, master and routes of the host's end of containers.",
				`printf '[Match]\nKind=veth bridge\n[Link]\nUnmanaged=yes\n' > /etc/systemd/network/05-linkspan.network && networkctl reload`)
		}
	}
	if w.none("manager-networkmanager", "manager-connman", "manager-dhcpcd", "manager-networkd") {
		w.ok("managers", "no network manager takes the containers' links for its own")
	}
}

// mentions says whether one of the files has a line with key and, in it, word.
func (w *ward) mentions(patterns []string, key, word string) bool {
	for _, pattern := range patterns {
		files, err := fs.Glob(w.Host, pattern)
		if err != nil {
			continue
		}
		for _, f := range files {
			b, err := fs.ReadFile(w.Host, f)
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(b)) {
				line = strings.TrimSpace(line)
				if strings.HasPrefix(line, key) && strings.Contains(line, word) {
					return true
				}
			}
		}
	}
	return false
}

// greedyUnits are networkd's .network files that would match a veth device before one
// that leaves it unmanaged does (systemd.network(5): the first file by name counts).
func (w *ward) greedyUnits() []string {
	byName := map[string]string{}
	for _, dir := range []string{"usr/lib/systemd/network", "run/systemd/network", "etc/systemd/network"} {
		files, _ := fs.Glob(w.Host, dir+"/*.network")
		for _, f := range files {
			byName[path.Base(f)] = f
		}
	}
	var all, greedy []string
	for name := range byName {
		all = append(all, name)
	}
	slices.Sort(all)
	for _, name := range all {
		b, err := fs.ReadFile(w.Host, byName[name])
		if err != nil {
			continue
		}
		matches, unmanaged := readUnit(string(b))
		if !matches {
			continue
		}
		if unmanaged {
			break
		}
		greedy = append(greedy, "/"+byName[name])
	}
	return greedy
}

// readUnit says whether a .network file matches a host's end of a container, and
// leaves it alone.
func readUnit(text string) (matches, unmanaged bool) {
	section, any, ok := "", false, true
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case section == "[Link]" && key == "Unmanaged":
			unmanaged = value == "yes" || value == "true" || value == "1"
		case section != "[Match]":
		case key == "Name" || key == "Kind" || key == "Type" || key == "Driver":
			any = true
			example := map[string]string{"Name": "veth0a1b2c3", "Kind": "veth", "Type": "ether", "Driver": "veth"}[key]
			ok = ok && globs(value, example)
		default: // MACAddress, Path, Host and the like single out something else
			any, ok = true, false
		}
	}
	return any && ok, unmanaged
}

// globs says whether one of the patterns fits, and none with an exclamation mark.
func globs(patterns, s string) bool {
	negated := strings.HasPrefix(patterns, "!")
	fits := slices.ContainsFunc(strings.Fields(strings.TrimPrefix(patterns, "!")), func(p string) bool {
		m, err := path.Match(p, s)
		return err == nil && m
	})
	return fits != negated
}
