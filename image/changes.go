package image

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"linkspan/cnm"
)

// applyChanges carries the lines of `docker import --change` out on a config:
// instructions of a Dockerfile that change the config alone. Variables are not
// expanded.
func applyChanges(c *dockerspec.DockerOCIImageConfig, changes []string) error {
	for _, change := range changes {
		for line := range strings.Lines(change) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			word, rest, _ := strings.Cut(line, " ")
			do, ok := instructions[strings.ToUpper(word)]
			if !ok {
				return cnm.Invalid("%s is not a valid change command", word)
			}
			rest = strings.TrimSpace(rest)
			if rest == "" {
				return cnm.Invalid("change %q: %s requires at least one argument", line, strings.ToUpper(word))
			}
			if err := do(c, rest); err != nil {
				return cnm.Invalid("change %q: %w", line, err)
			}
		}
	}
	return nil
}

// ApplyChanges carries the lines of `docker commit --change` out on a config.
func ApplyChanges(c *dockerspec.DockerOCIImageConfig, changes []string) error {
	return applyChanges(c, changes)
}

type config = dockerspec.DockerOCIImageConfig

var instructions = map[string]func(*config, string) error{
	"CMD":        func(c *config, s string) error { c.Cmd = command(s); return nil },
	"ENTRYPOINT": func(c *config, s string) error { c.Entrypoint = command(s); return nil },
	"USER":       func(c *config, s string) error { c.User = s; return nil },
	"STOPSIGNAL": func(c *config, s string) error { c.StopSignal = s; return nil },
	"ONBUILD":    func(c *config, s string) error { c.OnBuild = append(c.OnBuild, s); return nil },
	"WORKDIR": func(c *config, s string) error {
		if !path.IsAbs(s) {
			s = path.Join("/", c.WorkingDir, s)
		}
		c.WorkingDir = path.Clean(s)
		return nil
	},
	"ENV":         env,
	"LABEL":       label,
	"EXPOSE":      expose,
	"VOLUME":      volumes,
	"HEALTHCHECK": health,
}

// command reads the exec form, a JSON list, or else the shell form.
func command(s string) []string {
	if list, ok := jsonList(s); ok {
		return list
	}
	return []string{"/bin/sh", "-c", s}
}

func jsonList(s string) ([]string, bool) {
	var list []string
	if !strings.HasPrefix(s, "[") || json.Unmarshal([]byte(s), &list) != nil {
		return nil, false
	}
	return list, true
}

// pairs reads KEY=value ... or the old form KEY value.
func pairs(s string) ([][2]string, error) {
	all, err := words(s)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(all[0], "=") {
		key, value, ok := strings.Cut(s, " ")
		if !ok {
			return nil, fmt.Errorf("%q must be KEY=value", s)
		}
		return [][2]string{{key, strings.TrimSpace(value)}}, nil
	}
	var list [][2]string
	for _, w := range all {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q must be KEY=value", w)
		}
		list = append(list, [2]string{key, value})
	}
	return list, nil
}

func env(c *config, s string) error {
	list, err := pairs(s)
	for _, kv := range list {
		c.Env = slices.DeleteFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, kv[0]+"=") })
		c.Env = append(c.Env, kv[0]+"="+kv[1])
	}
	return err
}

func label(c *config, s string) error {
	list, err := pairs(s)
	for _, kv := range list {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[kv[0]] = kv[1]
	}
	return err
}

func expose(c *config, s string) error {
	for _, w := range strings.Fields(s) {
		ports, proto, _ := strings.Cut(w, "/")
		proto = strings.ToLower(or(proto, "tcp"))
		if proto != "tcp" && proto != "udp" && proto != "sctp" {
			return fmt.Errorf("invalid proto: %s", proto)
		}
		from, to, isRange := strings.Cut(ports, "-")
		first, err := strconv.ParseUint(from, 10, 16)
		last := first
		if err == nil && isRange {
			last, err = strconv.ParseUint(to, 10, 16)
		}
		if err != nil || first == 0 || last < first {
			return fmt.Errorf("invalid containerPort: %s", ports)
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		for p := first; p <= last; p++ {
			c.ExposedPorts[fmt.Sprintf("%d/%s", p, proto)] = struct{}{}
		}
	}
	return nil
}

func volumes(c *config, s string) error {
	list, ok := jsonList(s)
	if !ok {
		list = strings.Fields(s)
	}
	for _, v := range list {
		if v = strings.TrimSpace(v); v == "" {
			return fmt.Errorf("VOLUME specified can not be an empty string")
		}
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[v] = struct{}{}
	}
	return nil
}

func health(c *config, s string) error {
	h := &dockerspec.HealthcheckConfig{}
	times := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval}
	for strings.HasPrefix(s, "--") {
		flag, rest, _ := strings.Cut(s, " ")
		s = strings.TrimSpace(rest)
		key, value, _ := strings.Cut(flag[2:], "=")
		var err error
		if to := times[key]; to != nil {
			*to, err = time.ParseDuration(value)
		} else if key == "retries" {
			h.Retries, err = strconv.Atoi(value)
		} else {
			err = fmt.Errorf("unknown flag: --%s", key)
		}
		if err != nil {
			return err
		}
	}
	kind, rest, _ := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	switch kind = strings.ToUpper(kind); {
	case kind == "NONE" && rest == "":
		h = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}}
	case kind == "CMD" && rest != "":
		if list, ok := jsonList(rest); ok {
			h.Test = append([]string{"CMD"}, list...)
		} else {
			h.Test = []string{"CMD-SHELL", rest}
		}
	default:
		return fmt.Errorf("HEALTHCHECK takes NONE, or [--interval=… --timeout=… --start-period=… --start-interval=… --retries=…] CMD command")
	}
	c.Healthcheck = h
	return nil
}

// words splits at blanks, heeding quotes and backslashes as a Dockerfile does.
func words(s string) ([]string, error) {
	var list []string
	var word strings.Builder
	var quote rune
	escaped, inside := false, false
	for _, r := range s {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inside = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, inside = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if inside {
				list = append(list, word.String())
				word.Reset()
			}
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("unexpected end of statement while looking for matching %c", quote)
	}
	if inside {
		list = append(list, word.String())
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("nothing is given")
	}
	return list, nil
}
