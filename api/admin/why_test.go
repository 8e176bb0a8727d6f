package admin_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"linkspan/api/admin"
	"linkspan/cnm"
	"linkspan/diagnose/why"
)

// TestWhy: the question goes through, with what needs escaping, and the answer back.
func TestWhy(t *testing.T) {
	ask := func(_ context.Context, from, to string, probe bool) (*why.Answer, error) {
		if from == "nobody" {
			return nil, cnm.NotFound("there is no container %q", from)
		}
		return &why.Answer{Question: from + " " + to, Verdict: why.Blocked, Code: why.MTU, Notes: []why.Note{{Text: map[bool]string{true: "probed", false: ""}[probe]}}}, nil
	}
	look := func(context.Context) (*why.Exposed, error) {
		return &why.Exposed{Ports: []why.Exposure{{Container: "web", State: "open"}}}, nil
	}
	srv := httptest.NewServer(admin.New(admin.Config{Doors: []admin.Door{admin.Why(ask), admin.Exposed(look)}, Logger: slog.New(slog.DiscardHandler)}))
	defer srv.Close()
	c := admin.Client{HTTP: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}}}}
	a, err := c.Why(t.Context(), "a b", "[fd00::3]:80/tcp&x", true)
	if err != nil || a.Question != "a b [fd00::3]:80/tcp&x" || a.Code != why.MTU || a.ExitCode() != 2 || a.Notes[0].Text != "probed" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := c.Why(t.Context(), "a", "b", false); err != nil || a.Notes[0].Text != "" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := c.Why(t.Context(), "nobody", "b", false); err == nil || !strings.Contains(err.Error(), `there is no container "nobody"`) {
		t.Errorf("%v", err)
	}
	if _, err := c.Why(t.Context(), "", "b", false); err == nil || !strings.Contains(err.Error(), "two ends are needed") {
		t.Errorf("%v", err)
	}
	e, err := c.Exposed(t.Context())
	if err != nil || len(e.Ports) != 1 || e.Ports[0].Container != "web" {
		t.Errorf("%+v, %v", e, err)
	}
}
