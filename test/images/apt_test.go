package images

import (
	"slices"
	"strings"
	"testing"
)

const osRelease = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n"

func TestParseArchive(t *testing.T) {
	all := func(string) bool { return true }
	none := func(string) bool { return false }
	for name, test := range map[string]struct {
		targets, release, config string
		there                    func(string) bool
		sources, options         []string
		fails                    string
	}{
		"one archive, security, and what is not Debian's": {
			targets: "Packages|Debian|bookworm|http://mirror/debian/|bookworm|main|$(SIGNED_BY)\n" +
				"DEP-11|Debian|bookworm|http://mirror/debian/|bookworm|main|$(SIGNED_BY)\n" +
				"Packages|Debian|bookworm-security|http://mirror/sec/|bookworm-security|main|/k.gpg\n" +
				"Packages|Docker|bookworm|http://other/|bookworm|stable|/d.gpg\n" +
				"Packages|Debian|bookworm|http://mirror/debian/|bookworm|main|$(SIGNED_BY)\n",
			release: osRelease, there: all,
			sources: []string{
				"deb [signed-by=" + debianKeys + "] http://mirror/debian/ bookworm main",
				"deb [signed-by=/k.gpg] http://mirror/sec/ bookworm-security main",
			},
		},
		"no keyring of its own: apt's trusted ones": {
			targets: "Packages|Debian|bookworm|http://m/|bookworm|main|\n", release: osRelease, there: none,
			sources: []string{"deb http://m/ bookworm main"},
		},
		"proxy and checks are taken along, the rest is not": {
			targets: "Packages|Debian|bookworm|http://m/|bookworm|main|\n", release: osRelease, there: none,
			config: "APT \"\";\nAcquire \"\";\nAcquire::http::Proxy \"http://p:3128\";\nAcquire::https::Proxy \"\";\n" +
				"Acquire::Check-Valid-Until \"false\";\nAcquire::Languages \"none\";\nDPkg::Post-Invoke:: \"rm -f x\";\n",
			sources: []string{"deb http://m/ bookworm main"},
			options: []string{`Acquire::http::Proxy "http://p:3128";`, `Acquire::Check-Valid-Until "false";`},
		},
		"no lists yet":  {release: osRelease, there: all, fails: "apt-get update"},
		"not a release": {targets: "Packages|Debian|b|http://m/|b|main|\n", release: "ID=arch\n", there: all, fails: "VERSION_CODENAME"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := parseArchive(test.targets, test.release, test.config, test.there)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("error %v, want one that says %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if a.Suite != "bookworm" || !slices.Equal(a.Sources, test.sources) || !slices.Equal(a.Options, test.options) {
				t.Errorf("got %q %q %q", a.Suite, a.Sources, a.Options)
			}
		})
	}
}

func TestParseSimulation(t *testing.T) {
	plan := `NOTE: This is only a simulation!
Inst libaio1 (0.3.113-4 Debian:12.11/stable [amd64])
Inst libc6 [2.36-9] (2.36-9+deb12u10 Debian:12.11/stable [amd64]) []
Inst perl-modules-5.36 (5.36.0-7 Debian:12.11/stable [all])
Inst mariadb-server-core (1:10.11.11-0 Debian:12.11/stable [amd64])
Inst libfoo:i386 (1.0 Debian:12.11/stable [i386])
Conf libaio1 (0.3.113-4 Debian:12.11/stable [amd64])
`
	got, err := parseSimulation(plan, perl)
	if err != nil {
		t.Fatal(err)
	}
	want := []debPackage{
		{"libaio1", "0.3.113-4"}, {"libc6", "2.36-9+deb12u10"}, {"mariadb-server-core", "1:10.11.11-0"}, {"libfoo", "1.0"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"Inst foo\n", "Inst foo (1.0\n"} {
		if _, err := parseSimulation(bad, nil); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if _, err := parseSimulation("Inst foo (1 a)\n", []string{"[bad"}); err == nil {
		t.Error("a bad pattern was taken")
	}
}

func FuzzParseSimulation(f *testing.F) {
	f.Add("Inst libaio1 (0.3.113-4 Debian:12.11/stable [amd64])\n")
	f.Add("Inst a [1] (2 x) []\nInst b\n")
	f.Fuzz(func(t *testing.T, plan string) {
		got, err := parseSimulation(plan, []string{"perl*"})
		if err != nil {
			return
		}
		for _, p := range got {
			if strings.HasPrefix(p.name, "perl") {
				t.Errorf("%q was to be left out", p.name)
			}
		}
	})
}

func TestOnly(t *testing.T) {
	debs := []string{"/d/libc6_1_amd64.deb", "/d/busybox-static_1%3a2_amd64.deb", "/d/busybox_1_amd64.deb"}
	if got := only(debs, []string{"busybox-static"}); !slices.Equal(got, debs[1:2]) {
		t.Errorf("got %v", got)
	}
}
