package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
	"linkspan/config"
	"linkspan/dataplane/live"
	"linkspan/diagnose"
	"linkspan/diagnose/doctor"
	"linkspan/probe"
)

const doctorAbout = `Look the host over: kernel features, settings, other engines, firewalls, MTU, routes,
names, leaks, disks; each finding with why it matters and its cure. Nothing is changed.
Without a daemon it looks at the host alone, and says what it could not see.

--repair-store mends a damaged state file; the daemon must not run. See
linkspan doctor --repair-store --help.

Exit code: 0 nothing is wrong (notes are not); 2 there are warnings or problems;
1 the daemon could not be asked, and the host alone was looked at.`

const doctorExample = `
  # iptables -P FORWARD DROP
  # linkspan doctor
  host vm, kernel 6.18.44, daemon 0.4.0 (instance bb4081, pid 23089)

  problem  packets from network bridge to the outside are dropped by another firewall: table ip
           filter, chain FORWARD: policy drop
           Linkspan's own rules let them through, but a firewall of another program has the last
           word.
           cure: iptables -I FORWARD -i docker0 -j ACCEPT

  ok       the host forwards IPv4 (net.ipv4.ip_forward=1)
  …
  1 problem, 3 notes; 23 looked at and well
`

// runDoctor is `linkspan doctor`.
func runDoctor(args []string) int {
	if code, asked := repairStore(args); asked {
		return code
	}
	q := &question{name: "doctor", about: doctorAbout, example: doctorExample, flags: func(f *pflag.FlagSet) {
		f.Bool("repair-store", false, "Mend a damaged state file (without a daemon)")
	}}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		r, err := c.Doctor(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return 1, err
			}
			r = examineAlone(ctx)
			r.Unseen = append([]string{fmt.Sprintf("what only the daemon knows: %v", err)}, r.Unseen...)
			return 1, q.write(r)
		}
		if v := buildVersion; r.Version != "" && r.Version != v {
			r.Add(doctor.Finding{Severity: doctor.Warning, Code: "version-differs", What: fmt.Sprintf("this command is version %s, the daemon %s", v, r.Version),
				Why: "The daemon was not restarted since the installation, or PATH leads to another binary.", Cure: "systemctl restart linkspan"})
		}
		if err := q.write(r); err != nil || r.Well() {
			return 0, err
		}
		return 2, nil
	}
	return q.run(args)
}

// examineAlone looks at the host that this process is on.
func examineAlone(ctx context.Context) *doctor.Report {
	cfg := config.Default("linkspan")
	p := &doctor.Patient{Host: os.DirFS("/"), Machine: doctor.Here(cfg.DataRoot, cfg.ExecRoot), World: &diagnose.World{Kernel: live.New(nil)}}
	if probe.Root.Check() == nil {
		p.Features = probe.All
	}
	return doctor.Examine(ctx, p)
}
