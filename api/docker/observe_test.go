package docker

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// TestObserve: each request is told once, by its pattern and not by its path, with
// the time until its answer began.
func TestObserve(t *testing.T) {
	type seen struct {
		method, pattern string
		status          int
	}
	var got []seen
	h := New(Config{Observe: func(method, pattern string, status int, took time.Duration) {
		if took <= 0 || took > time.Minute {
			t.Errorf("%s took %v", pattern, took)
		}
		got = append(got, seen{method, pattern, status})
	}})
	for _, r := range []*http.Request{
		httptest.NewRequest("GET", "/v1.44/_ping", nil),
		httptest.NewRequest("GET", "/nothing/here", nil),
		httptest.NewRequest("GET", "/v0.1/_ping", nil),
	} {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	want := []seen{{"GET", "/_ping", 200}, {"GET", "", 404}, {"GET", "", 400}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestWaited: what comes after the first byte is the stream's, not the answer's.
func TestWaited(t *testing.T) {
	w := &response{ResponseWriter: httptest.NewRecorder(), begun: time.Now().Add(-time.Second)}
	if w.waited() < time.Second {
		t.Errorf("not begun: %v", w.waited())
	}
	_, _ = w.Write([]byte("x"))
	first := w.waited()
	w.begun = w.begun.Add(-time.Hour)
	w.WriteHeader(500)
	if w.waited() != first || w.status != 200 {
		t.Errorf("%v after %v, status %d", w.waited(), first, w.status)
	}
}
