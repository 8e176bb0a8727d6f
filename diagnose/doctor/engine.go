package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
)

// daemon: is the binary that runs still the one that is installed?
func (w *ward) daemon(context.Context) {
	e := w.Engine
	if e == nil {
		return
	}
	if w.replaced(e.PID) {
		w.say(Warning, "binary-replaced", fmt.Sprintf("the daemon (pid %d, %s) runs a binary that was replaced since", e.PID, e.Version),
			"What the newer one mends and adds is not there yet. A restart loses no packet.", "systemctl restart linkspan")
		return
	}
	w.ok("daemon", "the daemon runs the binary that is installed (%s)", e.Version)
}

// replaced: proc_pid_exe(5) says of a file that is not there any more that it is
// deleted.
func (w *ward) replaced(pid int) bool {
	exe, err := fs.ReadLink(w.Host, fmt.Sprintf("proc/%d/exe", pid))
	return err == nil && strings.HasSuffix(exe, " (deleted)")
}

// keeper: what containers' streams, names and ports depend on.
func (w *ward) keeper(context.Context) {
	e := w.Engine
	if e == nil {
		w.unseen("the keeper: no daemon")
		return
	}
	k := e.Keeper
	switch {
	case k.Err != nil:
		w.say(Problem, "keeper-away", fmt.Sprintf("the keeper does not answer: %v", k.Err),
			"It holds the containers' output, their resolvers and reserved ports. The daemon starts another one by itself.", "systemctl restart linkspan")
	case k.ElsewhereNetns:
		w.say(Problem, "keeper-elsewhere", fmt.Sprintf("the keeper (pid %d) is in another network namespace than the daemon", k.PID),
			"The ports that it reserves are those of another host.", fmt.Sprintf("kill %d   # another one is started at once", k.PID))
	case k.Version != e.Version:
		w.say(Warning, "keeper-old", fmt.Sprintf("the keeper (pid %d) is of version %s, the daemon of %s", k.PID, k.Version, e.Version),
			"A daemon that starts asks it to replace itself; that has failed.", "systemctl restart linkspan")
	default:
		w.ok("keeper", "the keeper (pid %d) answers and has the daemon's version", k.PID)
	}
}

// declared: is the kernel as it was declared?
func (w *ward) declared(context.Context) {
	e := w.Engine
	if e == nil {
		w.unseen("whether the kernel has what is declared, and leaks: no daemon")
		return
	}
	switch n := len(e.Pending); {
	case e.Compared != nil:
		w.unseen("whether the kernel has what is declared: %v", e.Compared)
	case n > 0:
		var first []string
		for _, d := range e.Pending {
			first = append(first, strings.TrimSpace(d.Verb+" "+d.Key))
		}
		w.say(Problem, "difference", fmt.Sprintf("the kernel differs from what is declared (%d): %s", n, few(first, 3)),
			"Something was changed or left behind, and not put right: because someone undoes it, or since it was refused.", "linkspan reconcile")
	default:
		w.ok("difference", "the kernel has what is declared, and nothing of ours besides")
	}
	if n := len(e.Garbage); n > 0 {
		w.say(Warning, "garbage", fmt.Sprintf("left behind, and needed by nothing (%d): %s", n, few(e.Garbage, 3)),
			"It takes names, addresses or ports that others could have.", "linkspan gc")
	}
	for _, b := range e.Backoffs {
		w.say(Problem, "repair-contested", b, "Another program undoes what Linkspan puts right, again and again; Linkspan waits longer each time.", "journalctl -u linkspan | grep repair")
	}
	if len(e.Drift) > 0 {
		w.say(Note, "drift", fmt.Sprintf("changed inside sandboxes, and left alone: %s", few(e.Drift, 3)),
			"What people change in there is theirs; a restart of the container makes it anew.", "")
	}
}

// mesh: the networks that span hosts.
func (w *ward) mesh(context.Context) {
	if w.Engine == nil || w.Engine.Mesh == nil {
		return
	}
	m := w.Engine.Mesh
	for _, word := range m.Words {
		w.say(Warning, "mesh", "mesh: "+word, "Networks that span hosts, and the names on them, depend on it; what runs on this host alone does not.", "linkspan mesh status")
	}
	if len(m.Words) == 0 {
		w.ok("mesh", "mesh %s is well (%s)", m.ID, hosts(m.Hosts))
	}
}

func hosts(n int) string {
	if n == 1 {
		return "1 host"
	}
	return fmt.Sprintf("%d hosts", n)
}

// store: the state file.
func (w *ward) store(context.Context) {
	e := w.Engine
	switch {
	case e == nil:
		w.unseen("the state file: a daemon opens it when it starts; `linkspan doctor --repair-store` looks at it without one")
	case e.StoreErr != nil:
		w.say(Problem, "store-damaged", fmt.Sprintf("the state file %s/linkspan.db: %v", e.DataRoot, e.StoreErr),
			"What runs goes on; changes may be refused, and the next start is in danger.", "systemctl stop linkspan && linkspan doctor --repair-store")
	default:
		w.ok("store", "the state file is whole (%s/linkspan.db)", e.DataRoot)
	}
}

// health: what containers say of themselves.
func (w *ward) health(context.Context) {
	if !w.known() {
		return
	}
	var ill, looping []string
	running := 0
	for _, c := range w.World.Declared.Containers() {
		switch {
		case c.Health == "unhealthy":
			ill = append(ill, c.Name)
		case c.State == "restarting":
			looping = append(looping, c.Name)
		}
		if c.PID != 0 {
			running++
		}
	}
	if len(ill) > 0 {
		w.say(Note, "unhealthy", "unhealthy by their own checks: "+names(ill), "The network is one of the things that such a check may miss.", "linkspan inspect -f '{{json .State.Health}}' "+ill[0])
	}
	if len(looping) > 0 {
		w.say(Note, "restarting", "restarted again and again: "+names(looping), "The program ends by itself.", "linkspan logs --tail 20 "+looping[0])
	}
	if len(ill)+len(looping) == 0 {
		w.ok("containers", "%d containers run, none is unhealthy by its own checks", running)
	}
}
