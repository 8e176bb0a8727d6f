package docker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"linkspan/cnm"

	"github.com/moby/moby/api/types/common"
)

// statuses is the one place where a class of errors becomes an HTTP status.
var statuses = []struct {
	class error
	code  int
}{
	{cnm.ErrNotFound, http.StatusNotFound},
	{cnm.ErrConflict, http.StatusConflict},
	{cnm.ErrInvalid, http.StatusBadRequest},
	{cnm.ErrUnavailable, http.StatusServiceUnavailable},
	{cnm.ErrUnsupported, http.StatusNotImplemented},
	{cnm.ErrForbidden, http.StatusForbidden},
	{cnm.ErrNotModified, http.StatusNotModified},
	{cnm.ErrExhausted, http.StatusInternalServerError},
	{context.Canceled, 499}, // the client went; it will not read this
	{context.DeadlineExceeded, http.StatusGatewayTimeout},
}

// status finds the outermost class in an error's tree. The outermost one counts:
// whoever wrapped a cause knew what it meant for the request.
func status(err error) int {
	for level := []error{err}; len(level) > 0; {
		var next []error
		for _, e := range level {
			if _, ok := e.(*http.MaxBytesError); ok {
				return http.StatusRequestEntityTooLarge
			}
			for _, s := range statuses {
				if e == s.class { // errors.Is would look deeper than this level
					return s.code
				}
			}
			switch u := e.(type) {
			case interface{ Unwrap() error }:
				next = append(next, u.Unwrap())
			case interface{ Unwrap() []error }:
				next = append(next, u.Unwrap()...)
			}
		}
		level = next
	}
	return http.StatusInternalServerError
}

// WriteError answers with an error as the API does, for the doors beside it.
func WriteError(w http.ResponseWriter, err error) {
	c := &call{w: &response{ResponseWriter: w}}
	_ = c.JSON(status(err), common.ErrorResponse{Message: err.Error()})
}

// fail answers with an error, unless the answer has begun already.
func (s *server) fail(c *call, err error) {
	code := status(err)
	if c.w.started() {
		s.log.Warn("the answer was cut short by an error", "method", c.R.Method, "path", c.R.URL.Path, "error", err)
		return
	}
	if code >= 500 && !errors.Is(err, cnm.ErrUnsupported) {
		s.log.Error("a request failed", "method", c.R.Method, "path", c.R.URL.Path, "status", code, "error", err)
	}
	if code == http.StatusNotModified {
		c.w.WriteHeader(code)
		return
	}
	_ = c.JSON(code, common.ErrorResponse{Message: err.Error()})
	if code == http.StatusRequestEntityTooLarge {
		c.linger()
	}
}

// What a client still sends after its body was refused is read for a while: a
// connection that is closed with something unread in it takes the answer along (RFC
// 9112, 9.6).
const (
	lingerTime  = 10 * time.Second
	lingerBytes = 64 << 20
)

func (c *call) linger() {
	rc := http.NewResponseController(c.w)
	if rc.Flush() != nil || rc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.R.Body, lingerBytes)
}
