package keeper

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run is the keeper as a process: `linkspan keeper ARGS`. It returns the exit
// code.
func Run(args []string, version string) int {
	var (
		cfg                  Config
		readyFD, stateFD     int
		showFormat, debugLog bool
	)
	fs := flag.NewFlagSet("keeper", flag.ContinueOnError)
	fs.StringVar(&cfg.Socket, "socket", "", "unix socket for the daemon")
	fs.StringVar(&cfg.Dir, "dir", "", "folder for FIFOs, lock and log")
	fs.StringVar(&cfg.Name, "name", "", "instance")
	fs.DurationVar(&cfg.Stall, "stall", defaultStall, "drop an attached client that takes nothing for so long")
	fs.DurationVar(&cfg.IdleExit, "idle-exit", 0, "leave after so long without daemon, stream and port; 0: never")
	fs.BoolVar(&debugLog, "debug", false, "log more")
	fs.IntVar(&readyFD, "ready-fd", -1, "write a byte here once the socket accepts")
	fs.IntVar(&stateFD, "state-fd", -1, "take over from a former process of this keeper")
	fs.BoolVar(&showFormat, "state-format", false, "print which keepers this one can take over, and exit")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if showFormat {
		fmt.Println(stateFormat)
		return 0
	}
	if cfg.Socket == "" || cfg.Dir == "" || fs.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "linkspan keeper: --socket and --dir are needed, and nothing but flags; the daemon starts it")
		return 2
	}
	level := slog.LevelInfo
	if debugLog {
		level = slog.LevelDebug
	}
	cfg.Version = version
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	if stateFD < 0 {
		dropInherited(readyFD)
	}
	if readyFD >= 0 {
		ready := file(readyFD, "ready")
		cfg.Ready = func() {
			_, _ = ready.Write([]byte{'1'})
			ready.Close()
		}
	}
	if stateFD >= 0 {
		cfg.State = file(stateFD, "state")
	}
	cfg.Exec = func(exe string, state *os.File) error { return replaceBy(exe, fs, state) }
	settle(cfg.Logger)
	// A closed terminal or a stopping daemon is no reason to leave.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := Serve(ctx, cfg)
	switch {
	case errors.Is(err, ErrRunning):
		fmt.Fprintln(os.Stderr, "linkspan keeper:", err)
		return ExitRunning
	case err != nil:
		fmt.Fprintln(os.Stderr, "linkspan keeper:", err)
		return 1
	}
	return 0
}

// dropInherited closes what came from the daemon's starter through the daemon: a
// shell's or a harness's pipes and locks. A process that lives on with them
// keeps their other ends waiting. What was inherited is what is not
// close-on-exec: everything that Go opens is.
func dropInherited(except int) {
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range dir {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 || fd == except {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

// replaceBy calls exec with this keeper's own flags. What the upgrade made is
// left out: a next upgrade sets it again.
func replaceBy(exe string, fs *flag.FlagSet, state *os.File) error {
	fd := -1
	if err := withFD(state, func(n int) error { fd = n; return nil }); err != nil {
		return err
	}
	argv := []string{exe, "keeper"}
	fs.Visit(func(f *flag.Flag) {
		if f.Name != "ready-fd" && f.Name != "state-fd" {
			argv = append(argv, "--"+f.Name+"="+f.Value.String())
		}
	})
	argv = append(argv, "--state-fd", strconv.Itoa(fd))
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
		return err
	}
	return syscall.Exec(exe, argv, os.Environ())
}

// settle makes this process what a keeper has to be. Nothing of it is needed to
// work at all.
func settle(logger *slog.Logger) {
	// Every reserved port is a descriptor, a stream two to four, a resolver six.
	want := uint64(1 << 20)
	if b, err := os.ReadFile("/proc/sys/fs/nr_open"); err == nil {
		if n, err := strconv.ParseUint(string(b[:max(len(b)-1, 0)]), 10, 64); err == nil {
			want = min(want, n)
		}
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil {
		raised := unix.Rlimit{Cur: max(want, lim.Max), Max: max(want, lim.Max)}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) != nil {
			lim.Cur = lim.Max
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
				logger.Warn("the limit of open files cannot be raised", "err", err)
			}
		}
	}
	makeRoom()
	// Of all processes this is the last to be killed for memory, next to the
	// runtime's shims: every container's output ends in it.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0); err != nil {
		logger.Warn("oom_score_adj cannot be set", "err", err)
	}
	// It is small, and has time: rather collect than grow.
	debug.SetGCPercent(50)
	go func() {
		// What start-up needed goes back to the system.
		time.Sleep(2 * time.Second)
		debug.FreeOSMemory()
		dropText()
	}()
}

// makeRoom has the kernel make the table of descriptors big at once. It doubles
// when it is full, and a process of several threads then waits for an RCU grace
// period, 5 to 20 ms each time (fs/file.c, expand_fdtable): a range of 10,000 ports
// would wait seven times.
func makeRoom() {
	const room = 32 << 10 // 256 KiB of pointers
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return
	}
	if fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, int(min(room, lim.Cur))-1); err == nil {
		unix.Close(fd)
	}
}

// dropText unmaps the pages of the binary that are in memory; those that are
// used come back by a page fault, from the page cache. The keeper is in the same
// binary as docker's command line and the daemon, and start-up alone, which
// runs every package's initialisation, has touched 25 MB of it; afterwards the
// keeper lives in about three.
func dropText() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		// 00400000-00d5b000 r-xp 00000000 08:01 1234 /usr/bin/linkspan
		f := strings.Fields(line)
		if len(f) < 6 || f[5] != exe || (f[1] != "r-xp" && f[1] != "r--p") {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(f[0], "%x-%x", &from, &to); err == nil {
			// Clean private pages of a file: nothing can be lost (madvise(2)).
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}
