package logs

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/docker/go-units"

	"linkspan/cnm"
	"linkspan/config"
)

// The log drivers. Local is Docker's driver of that name in what it is for, logs
// that rotate unasked; its files are JSON lines too, which is not Docker's format.
const (
	JSONFile = "json-file"
	Local    = "local"
	None     = "none"
)

// Drivers are the names that --log-driver takes.
func Drivers() []string { return []string{JSONFile, Local, None} }

// Settings are a container's decoded log options.
type Settings struct {
	// MaxSize in bytes is when a file is rotated, 0: never. MaxFile counts the
	// current file too. Compress gzips the others.
	MaxSize  int64
	MaxFile  int
	Compress bool

	labels, env           []string
	labelsRegex, envRegex *regexp.Regexp
	tag                   *template.Template
}

// The sizes of Docker's local driver.
const (
	localSize  = 20 << 20
	localFiles = 5
)

var keys = map[string][]string{
	JSONFile: {"compress", "env", "env-regex", "labels", "labels-regex", "max-buffer-size", "max-file", "max-size", "mode", "tag"},
	Local:    {"compress", "max-buffer-size", "max-file", "max-size", "mode"},
}

// Parse decodes --log-driver and --log-opt; an empty driver is json-file. Modes are
// taken and make no difference: the keeper never lets a container wait for its log
// longer than for one write, and loses nothing of it.
func Parse(driver string, opts map[string]string) (*Settings, error) {
	if driver == "" {
		driver = JSONFile
	}
	s := &Settings{MaxFile: 1}
	known, ok := keys[driver]
	switch {
	case driver == None:
		return s, nil
	case !ok:
		return nil, cnm.Unsupported("not yet: log driver %q is not supported by Linkspan: %s are; let a collector read the files of json-file%s", driver, strings.Join(Drivers(), ", "), meant(driver, Drivers()))
	case driver == Local:
		s.MaxSize, s.MaxFile, s.Compress = localSize, localFiles, true
	}
	for _, k := range slices.Sorted(maps.Keys(opts)) {
		if !slices.Contains(known, k) {
			return nil, cnm.Invalid("unknown log opt '%s' for %s log driver%s", k, driver, meant(k, known))
		}
		if err := s.set(k, opts[k]); err != nil {
			return nil, cnm.Invalid("log opt %s=%s: %w", k, opts[k], err)
		}
	}
	switch _, told := opts["compress"]; {
	case told && s.Compress && (s.MaxFile < 2 || s.MaxSize == 0):
		return nil, cnm.Invalid("compress cannot be true when max-file is less than 2 or max-size is not set: only rotated files are compressed")
	case s.MaxFile < 2 || s.MaxSize == 0:
		s.Compress = false
	}
	if _, ok := opts["max-buffer-size"]; ok && opts["mode"] != "non-blocking" {
		return nil, cnm.Invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
	}
	return s, nil
}

func meant(word string, candidates []string) string {
	if n := config.Nearest(word, candidates); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}

func (s *Settings) set(k, v string) (err error) {
	switch k {
	case "max-size":
		if s.MaxSize, err = units.FromHumanSize(v); err == nil && s.MaxSize <= 0 {
			err = cnm.Invalid("max-size must be a positive number")
		}
	case "max-file":
		if s.MaxFile, err = strconv.Atoi(v); err == nil && s.MaxFile < 1 {
			err = cnm.Invalid("max-file cannot be less than 1")
		}
	case "max-buffer-size":
		_, err = units.RAMInBytes(v)
	case "compress":
		s.Compress, err = strconv.ParseBool(v)
	case "mode":
		if v != "blocking" && v != "non-blocking" {
			err = cnm.Invalid("logger: logging mode not supported: %s; there are blocking and non-blocking", v)
		}
	case "labels":
		s.labels = list(v)
	case "env":
		s.env = list(v)
	case "labels-regex":
		s.labelsRegex, err = regexp.Compile(v)
	case "env-regex":
		s.envRegex, err = regexp.Compile(v)
	case "tag":
		if s.tag, err = template.New("tag").Option("missingkey=error").Parse(v); err == nil {
			_, err = s.render(&Subject{})
		}
	}
	return err
}

func list(s string) (out []string) {
	for w := range strings.SplitSeq(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// Subject is whose log it is; its methods are what a tag's template may use.
type Subject struct {
	ContainerID, ContainerName string // without slash
	ImageID, ImageRef          string
	Args                       []string // the command
	Env                        []string
	Labels                     map[string]string
	Host                       string
}

// ID, FullID, Name, ImageID, ImageFullID, ImageName, Command, Hostname and
// DaemonName are Docker's words in tags.
type words struct{ s *Subject }

func (w words) ID() string                { return short(w.s.ContainerID) }
func (w words) FullID() string            { return w.s.ContainerID }
func (w words) Name() string              { return w.s.ContainerName }
func (w words) ImageID() string           { return short(strings.TrimPrefix(w.s.ImageID, "sha256:")) }
func (w words) ImageFullID() string       { return w.s.ImageID }
func (w words) ImageName() string         { return w.s.ImageRef }
func (w words) Command() string           { return strings.Join(w.s.Args, " ") }
func (w words) Hostname() (string, error) { return w.s.Host, nil }
func (w words) DaemonName() string        { return "docker" }

func short(id string) string { return id[:min(len(id), 12)] }

func (s *Settings) render(of *Subject) (string, error) {
	var b strings.Builder
	err := s.tag.Execute(&b, words{of})
	return b.String(), err
}

// Attrs are what stands in every line of a container's log; nil: nothing.
func (s *Settings) Attrs(of *Subject) (map[string]string, error) {
	out := map[string]string{}
	for _, l := range s.labels {
		if v, ok := of.Labels[l]; ok {
			out[l] = v
		}
	}
	if s.labelsRegex != nil {
		for k, v := range of.Labels {
			if s.labelsRegex.MatchString(k) {
				out[k] = v
			}
		}
	}
	for _, e := range of.Env {
		k, v, ok := strings.Cut(e, "=")
		if ok && (slices.Contains(s.env, k) || s.envRegex != nil && s.envRegex.MatchString(k)) {
			out[k] = v
		}
	}
	if s.tag != nil {
		t, err := s.render(of)
		if err != nil {
			return nil, cnm.Invalid("log opt tag: %w", err)
		}
		if t != "" {
			out["tag"] = t
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}
