package images

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// pusher uploads images to a registry by the distribution API (distribution-spec
// v1.1, "Push"): blobs as one POST and one PUT each, then the manifest.
type pusher struct {
	base   string // http://127.0.0.1:5000
	client *http.Client
	// home is a repository that already holds a blob: others mount it from there.
	home map[string]string
}

func (p *pusher) push(ctx context.Context, b Built) error {
	repo := b.Repository()
	for _, l := range b.layers {
		open := func() (io.ReadCloser, error) { return os.Open(l.file) }
		if err := p.blob(ctx, repo, l.Digest, l.Size, open); err != nil {
			return err
		}
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Config)), nil }
	if err := p.blob(ctx, repo, b.ID, int64(len(b.Config)), open); err != nil {
		return err
	}
	for _, tag := range b.Tags {
		_, err := p.do(ctx, http.MethodPut, p.base+"/v2/"+repo+"/manifests/"+tag, typeManifest,
			bytes.NewReader(b.Manifest), int64(len(b.Manifest)), http.StatusCreated)
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pusher) blob(ctx context.Context, repo, digest string, size int64, open func() (io.ReadCloser, error)) error {
	start := p.base + "/v2/" + repo + "/blobs/uploads/"
	if from, ok := p.home[digest]; ok {
		if from == repo {
			return nil
		}
		start += "?" + url.Values{"mount": {digest}, "from": {from}}.Encode()
	}
	// 201 says: mounted, nothing to send. 202 says: send it to Location.
	response, err := p.do(ctx, http.MethodPost, start, "", nil, 0, http.StatusAccepted, http.StatusCreated)
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusAccepted {
		location, err := response.Request.URL.Parse(response.Header.Get("Location"))
		if err != nil {
			return err
		}
		query := location.Query()
		query.Set("digest", digest)
		location.RawQuery = query.Encode()
		body, err := open()
		if err != nil {
			return err
		}
		defer body.Close()
		if _, err := p.do(ctx, http.MethodPut, location.String(), "application/octet-stream", body, size, http.StatusCreated); err != nil {
			return err
		}
	}
	p.home[digest] = repo
	return nil
}

func (p *pusher) do(ctx context.Context, method, where, kind string, body io.Reader, size int64, want ...int) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, where, body)
	if err != nil {
		return nil, err
	}
	request.ContentLength = size
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	for _, code := range want {
		if response.StatusCode == code {
			return response, nil
		}
	}
	return nil, fmt.Errorf("%s %s: %s: %s", method, where, response.Status, strings.TrimSpace(string(text)))
}
