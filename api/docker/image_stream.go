package docker

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"linkspan/cnm"
	"linkspan/image"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
)

// progress is an answer of many JSON lines. Until the first one an error still
// becomes the status; after it, it becomes the last line.
type progress struct{ c *call }

// line is one of them, in the form of all versions: clients before 1.5x read
// "error", newer ones "errorDetail".
type line struct {
	jsonstream.Message
	ErrorMessage string `json:"error,omitempty"`
}

func (p progress) send(l line) {
	if !p.c.w.started() {
		p.c.Header().Set("Content-Type", "application/json")
	}
	_ = p.c.Encode(l) // a client that is gone cancels the context
	p.c.Flush()
}

// tell is the image service's Progress.
func (p progress) tell(id, status string, current, total int64) {
	m := jsonstream.Message{Status: status, ID: id}
	if id != "" && !strings.HasPrefix(status, "Pulling from ") {
		m.Progress = &jsonstream.Progress{Current: current, Total: total}
	}
	p.send(line{Message: m})
}

// end tells an error in the way that is still open.
func (p progress) end(err error) error {
	if err == nil || !p.c.w.started() {
		return err
	}
	p.send(line{Message: jsonstream.Message{Error: &jsonstream.Error{Message: err.Error()}}, ErrorMessage: err.Error()})
	return nil
}

// imageCreate is `docker pull` and `docker import`.
func (s *server) imageCreate(c *call) error {
	if from := c.Query("fromImage"); from != "" {
		return s.imagePull(c, from)
	}
	return s.imageImport(c)
}

func (s *server) imagePull(c *call, from string) error {
	ref, err := pullRef(from, c.Query("tag"))
	if err != nil {
		return err
	}
	p := progress{c}
	return p.end(s.Images.Pull(c.Context(), ref, c.Query("platform"), registryAuth(c.R.Header.Get(registry.AuthHeader)), p.tell))
}

// pullRef puts the name together. Without any tag dockerd pulls all tags.
func pullRef(from, tag string) (string, error) {
	switch {
	case strings.HasPrefix(tag, "sha256:"):
		return from + "@" + tag, nil
	case tag != "":
		return repoTag(from, tag)
	}
	named, err := reference.ParseNormalizedNamed(from)
	if err != nil {
		return "", cnm.Invalid("invalid reference format: %q is no image name: %w", from, err)
	}
	if reference.IsNameOnly(named) {
		return "", cnm.Unsupported("not yet: pulling all tags of %s; name one tag, like %s:latest", from, from)
	}
	return from, nil
}

// registryAuth reads the login that a client sends along. What cannot be read is
// no login, as in dockerd: a pull may go without.
func registryAuth(header string) *image.Auth {
	if header == "" {
		return nil
	}
	b, err := base64.URLEncoding.DecodeString(header)
	if err != nil {
		b, err = base64.RawURLEncoding.DecodeString(header)
	}
	var a registry.AuthConfig
	if err != nil || json.Unmarshal(b, &a) != nil {
		return nil
	}
	auth := image.Auth{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Auth != "" && auth.Username == "" {
		if plain, err := base64.StdEncoding.DecodeString(a.Auth); err == nil {
			auth.Username, auth.Password, _ = strings.Cut(string(plain), ":")
		}
	}
	if auth == (image.Auth{}) {
		return nil
	}
	return &auth
}

// imageImport is `docker import`: from the body, or from an address.
func (s *server) imageImport(c *call) error {
	src := c.Query("fromSrc")
	ref, err := repoTag(c.Query("repo"), c.Query("tag"))
	if err != nil {
		return err
	}
	p := progress{c}
	var r io.Reader = c.R.Body
	message := c.Query("message")
	switch {
	case src == "-":
	case strings.HasPrefix(src, "http://"), strings.HasPrefix(src, "https://"):
		body, err := download(c, src)
		if err != nil {
			return err
		}
		defer body.Close()
		r = body
		p.tell("", "Downloading from "+src, 0, 0)
		if message == "" {
			message = "Imported from " + src
		}
	default:
		return cnm.Invalid("nothing to create: the query must name fromImage, or fromSrc as - or an address of http or https (it is %q)", src)
	}
	if platform := c.Query("platform"); platform != "" {
		return cnm.Unsupported("not yet: importing an image for another platform (%s)", platform)
	}
	_, err = s.Images.Import(c.Context(), r, ref, message, c.R.URL.Query()["changes"], p.tell)
	return p.end(err)
}

func download(c *call, src string) (io.ReadCloser, error) {
	if _, err := url.Parse(src); err != nil {
		return nil, cnm.Invalid("import from %s: %w", src, err)
	}
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, src, nil)
	if err != nil {
		return nil, cnm.Invalid("import from %s: %w", src, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "import from %s: %w", src, err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, cnm.Errorf(cnm.ErrUnavailable, "import from %s: the server answers %s", src, resp.Status)
	}
	return resp.Body, nil
}

// imageLoad is `docker load`.
func (s *server) imageLoad(c *call) error {
	if c.Query("platform") != "" {
		return cnm.Unsupported("not yet: loading one platform of an archive; leave --platform out to load this host's")
	}
	p := progress{c}
	tell := p.tell
	if c.Bool("quiet") {
		tell = nil
	}
	names, err := s.Images.Load(c.Context(), c.R.Body, tell)
	for _, n := range names {
		what := "Loaded image: "
		if strings.HasPrefix(n, "sha256:") {
			what = "Loaded image ID: "
		}
		p.send(line{Message: jsonstream.Message{Stream: what + n + "\n"}})
	}
	return p.end(err)
}
