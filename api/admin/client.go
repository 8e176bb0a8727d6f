package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// Client asks the admin door. HTTP must reach the daemon whatever the host in
// the URL is (docker/cli's client does: its HTTPClient dials the socket).
type Client struct{ HTTP *http.Client }

// Plan asks what a container would make. body and name are those of
// POST /containers/create.
func (c Client) Plan(ctx context.Context, name string, body []byte) (*Plan, error) {
	var p Plan
	return &p, c.Ask(ctx, http.MethodPost, "plan?name="+url.QueryEscape(name), body, &p)
}

// Reconcile compares the host with what is declared and, unless dryRun, puts it
// right.
func (c Client) Reconcile(ctx context.Context, dryRun bool) (*Report, error) {
	path := "reconcile"
	if dryRun {
		path += "?dry-run=1"
	}
	var r Report
	return &r, c.Ask(ctx, http.MethodPost, path, nil, &r)
}

// Ask asks a door whose answer is JSON, and reads it into v. path is what follows
// Prefix, with its query.
func (c Client) Ask(ctx context.Context, method, path string, body []byte, v any) error {
	r, err := c.Stream(ctx, method, path, body)
	if err != nil {
		return err
	}
	return read(r, v)
}

// read reads a whole answer into v, and closes it.
func read(r io.ReadCloser, v any) error {
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("reading the daemon's answer: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("the daemon's answer is not understood: %w", err)
	}
	return nil
}

// Stream asks a door and returns its answer to be read as it comes; the caller closes
// it.
func (c Client) Stream(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	return c.send(ctx, method, path, bytes.NewReader(body), "application/json")
}

// send is Stream with any body.
func (c Client) send(ctx context.Context, method, path string, body io.Reader, kind string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://linkspan"+Prefix+path, body)
	if err != nil {
		return nil, fmt.Errorf("asking the daemon: %w", err)
	}
	req.Header.Set("Content-Type", kind)
	resp, err := c.HTTP.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("no daemon answers: %w; start it: `systemctl start linkspan` where it is installed, or `linkspan daemon` as root, and -H names its socket where that is another", err)
		}
		return nil, fmt.Errorf("asking the daemon: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the daemon's answer: %w", err)
	}
	var e struct{ Message string }
	if json.Unmarshal(data, &e) != nil || e.Message == "" {
		e.Message = strings.TrimSpace(string(data))
	}
	// Another engine knows nothing below our prefix and says just this.
	if resp.StatusCode == http.StatusNotFound && e.Message == "page not found" {
		return nil, fmt.Errorf("the daemon that answered (%s) is not Linkspan: this verb needs it", resp.Header.Get("Server"))
	}
	return nil, fmt.Errorf("error from the daemon: %s", e.Message)
}
