package admin

import (
	"net/http"
	"time"
)

// observed remembers when and with what an answer began.
type observed struct {
	http.ResponseWriter
	begun  time.Time
	status int
	took   time.Duration
}

func (o *observed) WriteHeader(code int) {
	o.start(code)
	o.ResponseWriter.WriteHeader(code)
}

func (o *observed) Write(b []byte) (int, error) {
	o.start(http.StatusOK)
	return o.ResponseWriter.Write(b)
}

func (o *observed) start(code int) {
	if o.status == 0 {
		o.status, o.took = code, time.Since(o.begun)
	}
}

// Unwrap lets http.ResponseController find Flush, Hijack and the deadlines.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }
