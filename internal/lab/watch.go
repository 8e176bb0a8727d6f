package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"linkspan/netns"
)

// watches are what one host must be left with.
func (h *Host) watches() []Watch {
	w := func(what string, list func() ([]string, error)) Watch { return Watch{h.Name + " " + what, list} }
	return []Watch{
		w("links", h.links), w("addresses", h.addresses), w("routes", h.routes), w("rules", h.rules),
		w("nft", h.nft), w("sockets", h.sockets), w("processes", h.processes),
	}
}

// dump runs ip(8) again when what it lists changed while it looked, which it says
// ("Dump was interrupted and may be inconsistent.").
func (h *Host) dump(cmd ...string) (out string, err error) {
	for range 10 {
		if out, err = h.Try(cmd...); !strings.Contains(out, "Dump was interrupted") {
			break
		}
	}
	return out, err
}

// links without their numbers, which never come back.
func (h *Host) links() ([]string, error) {
	out, err := h.dump("ip", "-d", "-j", "link", "show")
	if err != nil {
		return nil, err
	}
	var links []struct {
		Name   string   `json:"ifname"`
		Flags  []string `json:"flags"`
		MTU    int      `json:"mtu"`
		Master string   `json:"master"`
		Group  string   `json:"group"`
		Info   struct {
			Kind string `json:"info_kind"`
		} `json:"linkinfo"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		return nil, fmt.Errorf("ip -j link: %w", err)
	}
	var lines []string
	for _, l := range links {
		up := "down"
		for _, f := range l.Flags {
			if f == "UP" {
				up = "up"
			}
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s mtu %d %s group %s %s", l.Name, l.Info.Kind, l.MTU, up, l.Group, l.Master)))
	}
	return lines, nil
}

// addresses without those that the kernel gives by itself.
func (h *Host) addresses() ([]string, error) {
	out, err := h.dump("ip", "-j", "addr", "show")
	if err != nil {
		return nil, err
	}
	var links []struct {
		Name  string `json:"ifname"`
		Infos []struct {
			Local  string `json:"local"`
			Prefix int    `json:"prefixlen"`
			Scope  string `json:"scope"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		return nil, fmt.Errorf("ip -j addr: %w", err)
	}
	var lines []string
	for _, l := range links {
		for _, a := range l.Infos {
			if a.Scope != "link" && l.Name != "lo" {
				lines = append(lines, fmt.Sprintf("%s %s/%d", l.Name, a.Local, a.Prefix))
			}
		}
	}
	return lines, nil
}

// routes of all tables that someone set: the kernel's own come and go with
// addresses.
func (h *Host) routes() (lines []string, err error) {
	for _, fam := range []string{"-4", "-6"} {
		out, err := h.Try("ip", fam, "route", "show", "table", "all")
		if err != nil {
			return nil, err
		}
		for l := range strings.Lines(out) {
			if !strings.Contains(l, "proto kernel") && !strings.HasPrefix(l, "multicast ") {
				lines = append(lines, words(l))
			}
		}
	}
	return lines, nil
}

func (h *Host) rules() (lines []string, err error) {
	for _, fam := range []string{"-4", "-6"} {
		out, err := h.Try("ip", fam, "rule", "show")
		if err != nil {
			return nil, err
		}
		for l := range strings.Lines(out) {
			lines = append(lines, fam+" "+words(l))
		}
	}
	return lines, nil
}

// nft lists the whole ruleset, without counters, each line under its table.
func (h *Host) nft() (lines []string, err error) {
	out, err := h.Try("nft", "-s", "list", "ruleset")
	if err != nil {
		return nil, err
	}
	table := ""
	for l := range strings.Lines(out) {
		if strings.HasPrefix(l, "table ") {
			table = strings.TrimSuffix(words(l), " {")
			lines = append(lines, table)
		} else if l = words(l); l != "" && l != "}" {
			lines = append(lines, table+": "+l)
		}
	}
	return lines, nil
}

// sockets that listen or are bound.
func (h *Host) sockets() (lines []string, err error) {
	out, err := h.Try("ss", "-HlntuS")
	if err != nil { // without SCTP in the kernel ss refuses -S
		out, err = h.Try("ss", "-Hlntu")
	}
	if err != nil {
		return nil, err
	}
	for l := range strings.Lines(out) {
		if f := strings.Fields(l); len(f) > 4 {
			lines = append(lines, f[0]+" "+f[4])
		}
	}
	return lines, nil
}

// processes in the host's network namespace.
func (h *Host) processes() ([]string, error) {
	ino, err := netns.Inode(h.NS)
	if err != nil {
		return nil, err
	}
	want := fmt.Sprintf("net:[%d]", ino)
	return eachProcess(func(dir, cmd string) bool {
		ns, err := os.Readlink(filepath.Join(dir, "ns/net"))
		return err == nil && ns == want
	})
}

// Processes watches those whose command line contains text: the test's own folder
// or socket, say. Zombies and this test itself do not count.
func Processes(text string) Watch {
	return Watch{"processes with " + text, func() ([]string, error) {
		return eachProcess(func(_, cmd string) bool { return strings.Contains(cmd, text) })
	}}
}

func eachProcess(keep func(dir, cmd string) bool) (lines []string, err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		b, err := os.ReadFile(filepath.Join(d, "cmdline"))
		cmd := words(strings.ReplaceAll(string(b), "\x00", " "))
		if err != nil || cmd == "" || filepath.Base(d) == strconv.Itoa(os.Getpid()) || !keep(d, cmd) {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s (pid %s)", cmd, filepath.Base(d)))
	}
	return lines, nil
}

// Mounts watches the mounts at and below a folder, pins of namespaces included.
func Mounts(dir string) Watch {
	return Watch{"mounts below " + dir, func() (lines []string, err error) {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return nil, err
		}
		for l := range strings.Lines(string(b)) {
			if f := strings.Fields(l); len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
				lines = append(lines, f[4])
			}
		}
		return lines, nil
	}}
}

// Files watches the names in a folder, one level deep; no folder has none.
func Files(dir string) Watch {
	return Watch{"files in " + dir, func() (lines []string, err error) {
		entries, err := os.ReadDir(dir)
		if os.IsNotExist(err) {
			return nil, nil
		}
		for _, e := range entries {
			lines = append(lines, e.Name())
		}
		return lines, err
	}}
}

// Flows watches the conntrack entries of the host to or from the given ports.
func (h *Host) Flows(ports ...int) Watch {
	return Watch{h.Name + " conntrack", func() (lines []string, err error) {
		for _, fam := range []string{"ipv4", "ipv6"} {
			out, err := h.Try("conntrack", "-L", "-f", fam)
			if err != nil {
				return nil, err
			}
			for l := range strings.Lines(out) {
				for _, p := range ports {
					if strings.Contains(l+" ", fmt.Sprintf("port=%d ", p)) {
						lines = append(lines, flowLine(l))
						break
					}
				}
			}
		}
		return lines, nil
	}}
}

// flowLine keeps a flow's tuples, not its timeout and state.
func flowLine(l string) string {
	var keep []string
	for i, f := range strings.Fields(l) {
		if i == 0 || strings.Contains(f, "src=") || strings.Contains(f, "dst=") || strings.Contains(f, "port=") {
			keep = append(keep, f)
		}
	}
	return strings.Join(keep, " ")
}

func words(s string) string { return strings.Join(strings.Fields(s), " ") }
