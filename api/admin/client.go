package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Client asks the admin door. HTTP must reach the daemon whatever the host in
// the URL is (docker/cli's client does: its HTTPClient dials the socket).
type Client struct{ HTTP *http.Client }

// Plan asks what a container would make. body and name are those of
// POST /containers/create.
func (c Client) Plan(ctx context.Context, name string, body []byte) (*Plan, error) {
	var p Plan
	return &p, c.post(ctx, "plan?name="+url.QueryEscape(name), body, &p)
}

// Reconcile compares the host with what is declared and, unless dryRun, puts it
// right.
func (c Client) Reconcile(ctx context.Context, dryRun bool) (*Report, error) {
	path := "reconcile"
	if dryRun {
		path += "?dry-run=1"
	}
	var r Report
	return &r, c.post(ctx, path, nil, &r)
}

func (c Client) post(ctx context.Context, path string, body []byte, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://linkspan"+Prefix+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking the daemon: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("asking the daemon: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading the daemon's answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(data, v); err != nil {
			return fmt.Errorf("the daemon's answer is not understood: %w", err)
		}
		return nil
	}
	var e struct{ Message string }
	if json.Unmarshal(data, &e) != nil || e.Message == "" {
		e.Message = strings.TrimSpace(string(data))
	}
	// Another engine knows nothing below our prefix and says just this.
	if resp.StatusCode == http.StatusNotFound && e.Message == "page not found" {
		return fmt.Errorf("the daemon that answered (%s) is not Linkspan: this verb needs it", resp.Header.Get("Server"))
	}
	return fmt.Errorf("error from the daemon: %s", e.Message)
}
