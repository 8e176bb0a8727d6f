// Command linkspan is the whole of Linkspan in one binary: the daemon, docker's
// command line, and Linkspan's own verbs. Which of them it is depends on the
// name it was called by and on the first argument. This folder is wiring only.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
)

// buildVersion is Linkspan's own version; the Makefile sets it with
// -ldflags "-X main.buildVersion=…".
var buildVersion = "0.1.0-dev"

// verb is one of Linkspan's own verbs.
type verb struct {
	// help is one line for `linkspan --help`.
	help string
	// run gets what follows the verb, `--help` included, and returns the exit code.
	run func(args []string) int
	// hidden verbs are called by Linkspan itself and are not listed.
	hidden bool
}

// verbs returns Linkspan's own verbs. To add one, add a line. A name that docker
// has too is ours when the binary is called as linkspan.
func verbs() map[string]verb {
	return map[string]verb{
		"daemon":    {help: "Run the daemon (flags as dockerd's)", run: runDaemon},
		"keeper":    {help: "Hold what must outlive the daemon (started by the daemon)", run: runKeeper, hidden: true},
		"plan":      {help: "Show what a docker run would make in the kernel, and make nothing", run: runPlan},
		"reconcile": {help: "Compare the kernel with what is declared, and put the difference right", run: runReconcile},
		"uninstall": {help: "Take away what daemons have left on this host", run: runUninstall},
		"doctor":    {help: "Look the host over: what is wrong, why it matters, and the cure", run: runDoctor},
		"explain":   {help: "Tell what was made in the kernel for a container, network or port, and why", run: runExplain},
		"exposed":   {help: "List what is reached from outside, and through what", run: runExposed},
		"why":       {help: "Say why A does not reach B, and what mends it", run: runWhy},
		"rules":     {help: "Show the firewall with names for people, or in the shape of iptables", run: runRules},
		"graph":     {help: "Draw the host, its networks, containers and ports", run: runGraph},
		"flows":     {help: "Show who talks to whom, by name, through which port and translation", run: runFlows},
		"drops":     {help: "Show which packets our rules dropped, whose they were, and why", run: runDrops},
		"capture":   {help: "Copy a container's packets, of both sides of NAT, as pcapng", run: runCapture},
		"ui":        {help: "Serve a read-only page of networks, explanations and findings", run: runUI},
		"gc":        {help: "Remove what nothing declares any more: links, tables, ports, folders", run: runGC},
		"mesh":      {help: "Networks that span hosts: make a mesh, join one, look at it", run: runMesh},
		"manual":    {help: "Write the man pages (make install does)", run: runManual, hidden: true},
	}
}

func main() { os.Exit(run(os.Args)) }

// run dispatches by the called name, then by the first argument. The daemon and
// the keeper are recognised before anything of docker's command tree is made:
// they start often, and pay only for what they use.
func run(argv []string) int {
	if len(argv) == 0 {
		argv = []string{"linkspan"}
	}
	name, args := filepath.Base(argv[0]), argv[1:]
	switch name {
	case "dockerd":
		return runDaemon(args)
	case "docker":
		return runDocker(name, args)
	}
	if len(args) > 0 {
		if v, ok := verbs()[args[0]]; ok {
			return v.run(args[1:])
		}
		if args[0] == "--version" || args[0] == "-v" {
			fmt.Printf("Linkspan version %s, docker command line %s\n", buildVersion, dockerVersion())
			return 0
		}
	}
	return runDocker("linkspan", args)
}

// dockerVersion is the version of the docker/cli library in this binary, without
// "v" and "+incompatible", so that it never has to be repeated by hand.
func dockerVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/docker/cli" {
			return trimModuleVersion(d.Version)
		}
	}
	return "unknown"
}
