package spec

import "strings"

// DefaultPath is the PATH of a container whose image sets none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Env is a process's environment as Docker makes it: PATH, HOSTNAME and, with
// a terminal, TERM, then what the container's definition replaces or adds.
func Env(hostname string, tty bool, own ...[]string) []string {
	env := []string{"PATH=" + DefaultPath, "HOSTNAME=" + hostname}
	if tty {
		env = append(env, "TERM=xterm")
	}
	for _, o := range own {
		env = MergeEnv(env, o)
	}
	return env
}

// MergeEnv replaces or appends each "K=V"; a bare "K" removes K.
func MergeEnv(env, over []string) []string {
	at := make(map[string]int, len(env))
	for i, e := range env {
		k, _, _ := strings.Cut(e, "=")
		at[k] = i
	}
	gone := map[int]bool{}
	for _, e := range over {
		k, _, set := strings.Cut(e, "=")
		i, there := at[k]
		switch {
		case !set && there:
			gone[i] = true
			delete(at, k)
		case set && there:
			env[i] = e
		case set:
			at[k] = len(env)
			env = append(env, e)
		}
	}
	if len(gone) == 0 {
		return env
	}
	out := make([]string, 0, len(env))
	for i, e := range env {
		if !gone[i] {
			out = append(out, e)
		}
	}
	return out
}
