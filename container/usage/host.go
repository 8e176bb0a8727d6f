package usage

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Host is what a container's use is measured against.
type Host struct {
	CPU    uint64 // nanoseconds that all CPUs together have spent, idle included
	CPUs   uint32 // online
	Memory uint64 // bytes
}

// ReadHost reads the host's counters.
func ReadHost() (h Host, err error) {
	err = parse("/proc/stat", func(r io.Reader) error { h.CPU, h.CPUs, err = parseStat(r); return err })
	if err != nil {
		return h, err
	}
	err = parse("/proc/meminfo", func(r io.Reader) error { h.Memory, err = parseMemInfo(r); return err })
	return h, err
}

func parse(path string, f func(io.Reader) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := f(file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// tick is one clock tick of /proc/stat in nanoseconds: the kernel tells them to
// user space as 100 a second on every architecture that Go knows (USER_HZ).
const tick = 1e9 / 100

// parseStat adds up user, nice, system, idle, iowait, irq and softirq time of the
// first line, as Docker does (proc(5)), and counts the lines of single CPUs.
func parseStat(r io.Reader) (total uint64, cpus uint32, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20) // the line of interrupts is long on large hosts
	found := false
	for s.Scan() {
		name, rest, _ := strings.Cut(s.Text(), " ")
		if !strings.HasPrefix(name, "cpu") {
			break // they come first
		}
		if name != "cpu" {
			cpus++
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) < 7 {
			return 0, 0, fmt.Errorf("the line of all CPUs has %d numbers, not 7", len(fields))
		}
		for _, f := range fields[:7] {
			n, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				return 0, 0, err
			}
			total += n
		}
		found = true
	}
	if err := s.Err(); err != nil {
		return 0, 0, err
	}
	if !found {
		return 0, 0, fmt.Errorf("there is no line of all CPUs")
	}
	return total * tick, cpus, nil
}

func parseMemInfo(r io.Reader) (uint64, error) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		if f := strings.Fields(s.Text()); len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
			n, err := strconv.ParseUint(f[1], 10, 64)
			return n << 10, err
		}
	}
	if err := s.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("there is no line of MemTotal")
}
