package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"linkspan/api/docker"
)

// lines answers with one JSON value per line as they come, until the client goes, the
// daemon stops, or run ends. run calls ready when it knows that the request is right:
// an error before it is an answer of its own, one after it is the last line.
func lines(w http.ResponseWriter, r *http.Request, run func(ctx context.Context, ready func(), give func(any) error) error) {
	ctx, end := docker.Stream(r)
	defer end()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	flush := http.NewResponseController(w)
	began := false
	ready := func() {
		began = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusOK)
		_ = flush.Flush()
	}
	err := run(ctx, ready, func(v any) error {
		if err := enc.Encode(v); err != nil {
			return err
		}
		return flush.Flush()
	})
	switch {
	case err == nil || r.Context().Err() != nil:
	case !began:
		docker.WriteError(w, err)
	default:
		_ = enc.Encode(failure{err.Error()})
	}
}

// failure is the last line of a stream that failed.
type failure struct {
	Error string `json:"stream_error"`
}

// follow reads such a stream line by line. That ctx ended is no error.
func follow[T any](ctx context.Context, c Client, path string, fn func(T) error) error {
	body, err := c.Stream(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for r := bufio.NewReader(body); ; {
		line, err := r.ReadBytes('\n')
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, io.EOF) && len(line) == 0:
			return errors.New("the daemon ended the stream: it was stopped or restarted")
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("the daemon's stream broke off: %w", err)
		}
		var f failure
		if json.Unmarshal(line, &f) == nil && f.Error != "" {
			return errors.New(f.Error)
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return fmt.Errorf("the daemon's answer is not understood: %w", err)
		}
		if err := fn(v); err != nil {
			return err
		}
	}
}
