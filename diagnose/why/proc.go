package why

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Processes is what is asked of processes and their files. It changes nothing.
type Processes interface {
	// ReadFile reads a file as a process sees it (through /proc/PID/root).
	ReadFile(pid int, path string) ([]byte, error)
	// Holders are the processes that have a socket open, by its inode. They are sought
	// among those in the same network namespace as of (0: as ourselves): a host has
	// thousands of processes, and a sandbox a few.
	Holders(inode uint64, of int) ([]Process, error)
	// Process tells of one.
	Process(pid int) (Process, error)
}

// Process is one of the host's.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
	// Stopped: by a signal or a debugger.
	Stopped bool `json:"stopped,omitempty"`
}

func (p Process) String() string { return fmt.Sprintf("%s (pid %d)", p.Name, p.PID) }

// Proc are the processes below a mount of procfs ("/proc").
type Proc string

// ReadFile implements Processes. A path that is a link inside of the container is
// followed there: links that lead out of its root are none of the host's files.
func (p Proc) ReadFile(pid int, path string) ([]byte, error) {
	root, err := os.OpenRoot(filepath.Join(string(p), strconv.Itoa(pid), "root"))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(strings.TrimPrefix(path, "/"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", path)
	}
	b := make([]byte, min(info.Size(), 1<<20))
	n, err := f.Read(b)
	if n == 0 && err != nil && info.Size() > 0 {
		return nil, err
	}
	return b[:n], nil
}

// Holders implements Processes (proc(5): /proc/PID/fd).
func (p Proc) Holders(inode uint64, of int) ([]Process, error) {
	want := fmt.Sprintf("socket:[%d]", inode)
	self := "self"
	if of != 0 {
		self = strconv.Itoa(of)
	}
	stack, err := os.Readlink(filepath.Join(string(p), self, "ns/net"))
	if err != nil {
		return nil, err
	}
	dirs, err := os.ReadDir(string(p))
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if in, err := os.Readlink(filepath.Join(string(p), d.Name(), "ns/net")); err != nil || in != stack {
			continue
		}
		fds := filepath.Join(string(p), d.Name(), "fd")
		names, err := os.ReadDir(fds)
		if err != nil {
			continue // it ended meanwhile
		}
		if slices.ContainsFunc(names, func(n fs.DirEntry) bool {
			to, err := os.Readlink(filepath.Join(fds, n.Name()))
			return err == nil && to == want
		}) {
			if one, err := p.Process(pid); err == nil {
				found = append(found, one)
			}
		}
	}
	return found, nil
}

// Process implements Processes (proc(5): /proc/PID/stat).
func (p Proc) Process(pid int) (Process, error) {
	b, err := os.ReadFile(filepath.Join(string(p), strconv.Itoa(pid), "stat"))
	if err != nil {
		return Process{}, err
	}
	// The name is in parentheses and may hold any.
	open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
	if open < 0 || end < open || end+2 >= len(b) {
		return Process{}, errors.New("stat is not understood")
	}
	state := b[end+2]
	return Process{PID: pid, Name: string(b[open+1 : end]), Stopped: state == 'T' || state == 't'}, nil
}
