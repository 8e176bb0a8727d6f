package container

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
)

// badPsArgs would hide the column that tells which processes are the
// container's: "ps -o pid=".
var badPsArgs = regexp.MustCompile(`\s+(?:[^\s]*)pid\s*=\s*\S*`)

// Top implements Service: ps of the host, cut down to the container's processes.
func (e *Engine) Top(ctx context.Context, ref string, psArgs string) ([]string, [][]string, error) {
	c, err := e.Get(ref)
	if err != nil {
		return nil, nil, err
	}
	if !c.State.Phase.running() {
		return nil, nil, notRunning(c)
	}
	if psArgs == "" {
		psArgs = "-ef"
	}
	if badPsArgs.MatchString(" " + psArgs) {
		return nil, nil, cnm.Invalid("specifying \"%s\" is not allowed: the PID column must keep its name", strings.TrimSpace(badPsArgs.FindString(" "+psArgs)))
	}
	pids, err := e.ctd.pids(ctx, c.ID)
	if err != nil {
		return nil, nil, err
	}
	out, err := ps(ctx, strings.Fields(psArgs), pids)
	if err != nil {
		return nil, nil, err
	}
	titles, rows, err := parsePs(out, pids)
	if err == nil {
		e.publish(c, "top")
	}
	return titles, rows, err
}

// ps asks for the container's processes only; some of its options do not go
// with that, then for all.
func ps(ctx context.Context, args []string, pids []int) (string, error) {
	list := make([]string, len(pids))
	for i, p := range pids {
		list[i] = strconv.Itoa(p)
	}
	out, err := exec.CommandContext(ctx, "ps", append(slices.Clone(args), "-q"+strings.Join(list, ","))...).Output()
	if err != nil {
		out, err = exec.CommandContext(ctx, "ps", args...).Output()
	}
	if err != nil {
		var x *exec.ExitError
		if errors.As(err, &x) && len(x.Stderr) > 0 {
			return "", cnm.Invalid("ps: %s", strings.TrimSpace(strings.SplitN(string(x.Stderr), "\n", 2)[0]))
		}
		return "", fmt.Errorf("ps (Debian package procps): %w", err)
	}
	return string(out), nil
}

func parsePs(out string, pids []int) (titles []string, rows [][]string, err error) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	titles = strings.Fields(lines[0])
	at := slices.Index(titles, "PID")
	if at < 0 {
		return nil, nil, cnm.Invalid("Couldn't find PID field in ps output")
	}
	for _, l := range lines[1:] {
		f := strings.Fields(l)
		if len(f) <= at {
			continue
		}
		pid, err := strconv.Atoi(f[at])
		if err != nil || !slices.Contains(pids, pid) {
			continue // also the extra lines of ps's forest and threads
		}
		// The last column is a command with blanks in it.
		if n := len(titles); len(f) > n {
			f = append(f[:n-1:n-1], strings.Join(f[n-1:], " "))
		}
		rows = append(rows, f)
	}
	return titles, rows, nil
}
