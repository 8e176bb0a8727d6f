package images

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive is the Debian archive that this machine's apt is configured for.
type archive struct {
	Suite   string   // code name, such as bookworm
	Sources []string // one-line entries for sources.list(5)
	Options []string // Acquire:: options in apt.conf(5) syntax: proxies, retries
}

const indexFormat = "$(CREATED_BY)|$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"

// hostArchive reads it by apt's own eyes, whichever of the formats and places
// of sources.list(5) it is written in. Archives that are not Debian's (what
// else the machine installs from) are left out.
func hostArchive(ctx context.Context) (archive, error) {
	text, err := toolOutput(ctx, "apt-get", "indextargets", "--format", indexFormat, "Created-By: Packages")
	if err != nil {
		return archive{}, err
	}
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return archive{}, err
	}
	config, err := toolOutput(ctx, "apt-config", "dump")
	if err != nil {
		return archive{}, err
	}
	return parseArchive(text, string(release), config, exists)
}

// debianKeys is Debian's own keyring, of package debian-archive-keyring.
const debianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg"

func parseArchive(targets, osRelease, config string, there func(string) bool) (archive, error) {
	var a archive
	for _, line := range strings.Split(osRelease, "\n") {
		if v, ok := strings.CutPrefix(line, "VERSION_CODENAME="); ok {
			a.Suite = strings.Trim(v, `"`)
		}
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(targets, "\n") {
		f := strings.Split(line, "|")
		if len(f) != 7 || f[0] != "Packages" || f[1] != "Debian" {
			continue
		}
		uri, suite, component, keyring := f[3], f[4], f[5], f[6]
		if !strings.HasPrefix(keyring, "/") { // apt leaves the word as it is when there is none
			keyring = ""
			if there(debianKeys) {
				keyring = debianKeys
			}
		}
		entry := "deb "
		if keyring != "" {
			entry += "[signed-by=" + keyring + "] "
		}
		entry += uri + " " + suite + " " + component
		if !seen[entry] {
			seen[entry] = true
			a.Sources = append(a.Sources, entry)
		}
	}
	for _, line := range strings.Split(config, "\n") {
		name, value, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(name, "Acquire::") || value == `"";` || value == "" {
			continue
		}
		for _, p := range []string{"Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries"} {
			if strings.HasPrefix(name, p) {
				a.Options = append(a.Options, line)
			}
		}
	}
	switch {
	case a.Suite == "":
		return a, fmt.Errorf("/etc/os-release has no VERSION_CODENAME: the test images are built on Debian")
	case len(a.Sources) == 0:
		return a, fmt.Errorf("apt knows no Debian archive here: run `apt-get update`, and see that /etc/apt names one")
	}
	return a, nil
}

// solver asks apt what a set of packages needs on top of a base.
type solver struct {
	root  string // the base's root folder: its dpkg status is what is there
	lists string // package lists
	work  string // scratch
	debs  string // download folder
	arch  archive
}

func (s solver) apt(ctx context.Context, dir string, args ...string) (string, error) {
	sources := filepath.Join(s.work, "sources.list")
	if err := os.WriteFile(sources, []byte(strings.Join(s.arch.Sources, "\n")+"\n"), 0o644); err != nil {
		return "", err
	}
	line := []string{
		"env", "--chdir=" + dir, "apt-get", "-qq",
		"-o", "Dir::Etc::SourceList=" + sources,
		"-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "Dir::Etc::Preferences=/dev/null",
		"-o", "Dir::Etc::PreferencesParts=/dev/null",
		"-o", "Dir::State::Lists=" + s.lists,
		"-o", "Dir::State::Status=" + filepath.Join(s.root, "var/lib/dpkg/status"),
		"-o", "Dir::State::Extended_States=" + filepath.Join(s.root, "var/lib/apt/extended_states"),
		"-o", "Dir::Cache=" + s.work,
		"-o", "Dir::Log=" + s.work,
		"-o", "APT::Sandbox::User=root", // _apt cannot write to the cache
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"-o", "Acquire::Retries=3",
	}
	return toolOutput(ctx, append(line, args...)...)
}

// update fetches the package lists anew.
func (s solver) update(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(s.lists, "partial"), 0o755); err != nil {
		return err
	}
	_, err := s.apt(ctx, s.work, "update")
	return err
}

// fetch downloads the packages, what they depend on and the base does not
// have, minus what is left out; it returns the files.
func (s solver) fetch(ctx context.Context, packages, without []string) ([]string, error) {
	plan, err := s.apt(ctx, s.work, append([]string{"install", "--simulate", "--no-install-recommends"}, packages...)...)
	if err != nil {
		return nil, err
	}
	wanted, err := parseSimulation(plan, without)
	if err != nil {
		return nil, err
	}
	var specs, files []string
	for _, p := range wanted {
		specs = append(specs, p.name+"="+p.version)
	}
	if _, err := s.apt(ctx, s.debs, append([]string{"download"}, specs...)...); err != nil {
		return nil, err
	}
	for _, p := range wanted {
		// apt names a file NAME_VERSION_ARCH.deb, a colon escaped.
		pattern := filepath.Join(s.debs, p.name+"_"+strings.ReplaceAll(p.version, ":", "%3a")+"_*.deb")
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("apt-get download %s=%s: %d files match %s", p.name, p.version, len(found), pattern)
		}
		files = append(files, found[0])
	}
	return files, nil
}

type debPackage struct{ name, version string }

// parseSimulation reads the "Inst NAME (VERSION ARCHIVE [ARCH])" lines of
// apt-get --simulate; an upgrade of a package has "[OLD]" before the bracket.
func parseSimulation(plan string, without []string) ([]debPackage, error) {
	var out []debPackage
next:
	for _, line := range strings.Split(plan, "\n") {
		rest, ok := strings.CutPrefix(line, "Inst ")
		if !ok {
			continue
		}
		name, rest, _ := strings.Cut(rest, " ")
		name, _, _ = strings.Cut(name, ":")
		_, rest, found := strings.Cut(rest, "(")
		version, _, ok := strings.Cut(rest, " ")
		if !found || !ok {
			return nil, fmt.Errorf("apt-get --simulate: cannot read %q", line)
		}
		for _, pattern := range without {
			match, err := path.Match(pattern, name)
			if err != nil {
				return nil, fmt.Errorf("package pattern %q: %w", pattern, err)
			}
			if match {
				continue next
			}
		}
		out = append(out, debPackage{name, version})
	}
	return out, nil
}
