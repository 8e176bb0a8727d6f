package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/config"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/keeper"
	"linkspan/mesh/host"
	"linkspan/netns"
	"linkspan/store"
)

// sharedKeys is where the controller notes what a host-wide sysctl was before
// (network.Controller.NoteShared).
const sharedKeys = "shared/"

// Uninstall is `linkspan uninstall`: it takes away what the daemons of one data root
// have left running or in the kernel, and returns the exit code. The arguments are
// the daemon's; purge removes the data root and what containerd keeps for it too.
//
// It works without a daemon, and refuses beside one.
func Uninstall(o Options, args []string, purge bool) int {
	r, code, ok := parse(o, args)
	if !ok {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	u := &uninstall{engine: &engine{Options: o, cfg: r.Config, log: newLogger(r.Config.LogFormat, r.Config.Level())}, purge: purge}
	if err := u.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// uninstall is an engine of which only the rooms are opened that have something to
// give back.
type uninstall struct {
	*engine
	purge bool
}

func (u *uninstall) run(ctx context.Context) error {
	unlock, err := claimNamespace(u.cfg)
	if err != nil {
		return err
	}
	defer unlock()
	// Opening the store would make it.
	_, err = os.Stat(filepath.Join(u.cfg.DataRoot, "linkspan.db"))
	was := err == nil
	var errs []error
	if was {
		// Each step by itself: one that fails must not keep the next from its work.
		for _, step := range []func(context.Context) error{u.openStore, u.endContainers, u.endKeeper, u.endKernel, u.giveBack, u.leaveMesh, u.removeCgroups} {
			if err := step(ctx); err != nil {
				errs = append(errs, err)
			}
			if u.store == nil {
				return errors.Join(errs...) // without it nothing of ours is recognised
			}
		}
	} else {
		u.say("no daemon has used " + u.cfg.DataRoot)
	}
	errs = append(errs, u.unwind())
	if u.containerd != nil {
		u.containerd.Stop()
	}
	return errors.Join(append(errs, u.folders())...)
}

func (u *uninstall) say(s string) { fmt.Println(s) }

func (u *uninstall) endContainers(ctx context.Context) error {
	if err := u.openContainerd(ctx); err != nil {
		return fmt.Errorf("containers that may still run are not ended: %w", err)
	}
	n, err := u.endTasks(ctx)
	if n > 0 {
		u.say(fmt.Sprintf("%d containers were ended", n))
	}
	if u.purge && !u.containerd.Private {
		err = errors.Join(err, u.emptyNamespace(ctx))
	}
	return err
}

// endKeeper ends the process that holds logs, resolvers and ports.
func (u *uninstall) endKeeper(ctx context.Context) error {
	k, err := keeper.Dial(filepath.Join(u.cfg.ExecRoot, "keeper", "keeper.sock"))
	if err != nil {
		return nil // there is none
	}
	defer k.Close()
	if err := k.Shutdown(ctx); err != nil {
		return fmt.Errorf("the keeper is not ended: %w", err)
	}
	u.say("the keeper was ended")
	return nil
}

// endKernel brings the kernel to "nothing is wanted".
func (u *uninstall) endKernel(ctx context.Context) error {
	if err := u.openKernel(ctx); err != nil {
		return err
	}
	have, err := u.kernel.Observe(ctx, nil)
	if err != nil {
		return fmt.Errorf("observe the kernel: %w", err)
	}
	p := diff.Compute(&dataplane.State{}, have)
	if err := u.kernel.Apply(ctx, p.Ops); err != nil {
		return err
	}
	if err := u.kernel.Settle(ctx); err != nil {
		return err
	}
	if len(p.Ops) > 0 {
		u.say(fmt.Sprintf("%d kernel objects were removed (instance %s)", len(p.Ops), u.instance))
	}
	return nil
}

// giveBack sets host-wide sysctls to what they were before the first daemon.
func (u *uninstall) giveBack(ctx context.Context) error {
	notes, _, err := u.store.List(ctx, sharedKeys)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range notes {
		name := strings.TrimPrefix(n.Key, sharedKeys)
		if o, ok := dataplane.OffloadOf(name, string(n.Value)); ok {
			if err := u.kernel.Apply(ctx, []dataplane.Op{{Verb: dataplane.Change, Object: o}}); err != nil {
				u.log.Debug("a device that is gone keeps no setting", "setting", name, "err", err)
			}
			u.say(fmt.Sprintf("%s is %s again", name, n.Value))
			if _, err := u.store.Commit(ctx, store.Op{Key: n.Key}); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		err := os.WriteFile(filepath.Join("/proc/sys", filepath.Clean("/"+name)), n.Value, 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%s is not set back to %s: %w", name, n.Value, err))
			continue
		}
		u.say(fmt.Sprintf("%s is %s again", name, n.Value))
		// Another installation notes what it finds.
		if _, err := u.store.Commit(ctx, store.Op{Key: n.Key}); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// leaveMesh takes away what this host has of a mesh. The others are not told: they may be
// out of reach, and whoever uninstalls does not wait for them.
func (u *uninstall) leaveMesh(ctx context.Context) error {
	was, err := host.Removed(u.cfg.DataRoot)
	if err != nil {
		return fmt.Errorf("what this host has of a mesh is not removed: %w", err)
	}
	cached, _, err := u.store.List(ctx, "mesh/")
	if err != nil {
		return err
	}
	var ops []store.Op
	for _, e := range cached {
		ops = append(ops, store.Op{Key: e.Key})
	}
	if len(ops) > 0 {
		if _, err := u.store.Commit(ctx, ops...); err != nil {
			return err
		}
	}
	if was != "" {
		u.say(fmt.Sprintf("this host was in %s: at another host of it, say linkspan mesh forget", was))
	}
	return nil
}

// removeCgroups removes the group above the containers', in every hierarchy. The kernel
// refuses those that hold something.
func (u *uninstall) removeCgroups(context.Context) error {
	parent := u.cfg.CgroupParent
	if parent == "" {
		parent = "/linkspan-" + u.instance // container.Defaults
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for l := range strings.Lines(string(b)) {
		f := strings.Fields(l)
		if len(f) < 5 || !strings.Contains(l, " - cgroup") {
			continue
		}
		dir := filepath.Join(f[4], parent)
		below, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, d := range append(below, dir) { // files cannot be removed by themselves
			_ = unix.Rmdir(d)
		}
	}
	return nil
}

// folders removes the exec root, and with purge the data root, after the mounts
// below them.
func (u *uninstall) folders() error {
	var errs []error
	errs = append(errs, netns.Dismantle(u.pins()), netns.Dismantle(filepath.Dir(u.hostPin())))
	for _, dir := range []string{u.cfg.DataRoot, u.cfg.ExecRoot} {
		errs = append(errs, unmountBelow(dir))
	}
	remove := []string{u.cfg.ExecRoot}
	if u.purge {
		remove = append(remove, u.cfg.DataRoot)
	}
	for _, dir := range remove {
		// A mount that stayed would be emptied through the path: a volume of a
		// person's.
		if left := mountsBelow(dir); len(left) > 0 {
			errs = append(errs, fmt.Errorf("%s stays: %s is still mounted below it", dir, left[0]))
			continue
		}
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, err)
			continue
		}
		u.say(dir + " was removed")
	}
	if !u.purge {
		if _, err := os.Stat(u.cfg.DataRoot); err == nil {
			u.say(u.cfg.DataRoot + " stays: images, containers, volumes (--purge removes them)")
		}
	}
	if err := os.Remove(u.cfg.Pidfile); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// mountsBelow lists the mount points below a folder, the topmost first (proc(5):
// the table lists a mount after what it lies on; blanks are octal).
func mountsBelow(dir string) []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var out []string
	octal := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 4 && strings.HasPrefix(octal.Replace(f[4]), filepath.Clean(dir)+"/") {
			out = append(out, octal.Replace(f[4]))
		}
	}
	slices.Reverse(out)
	return out
}

func unmountBelow(dir string) error {
	var errs []error
	for _, m := range mountsBelow(dir) {
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
		}
	}
	return errors.Join(errs...)
}

// graceful is how long containers get between SIGTERM and SIGKILL.
func graceful(c *config.Config) time.Duration {
	if c.ShutdownTimeout < 0 {
		return time.Minute
	}
	return c.ShutdownTimeout
}
