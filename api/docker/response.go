package docker

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// response remembers how far the answer is, for the log and for errors that
// come too late to be told.
type response struct {
	http.ResponseWriter
	status   int
	begun    time.Time     // when the request came
	took     time.Duration // until the answer began
	hijacked bool
}

func (w *response) WriteHeader(code int) {
	w.start(code)
	w.ResponseWriter.WriteHeader(code)
}

func (w *response) Write(b []byte) (int, error) {
	w.start(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find Flush and the deadlines.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack takes the connection over.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.start(http.StatusSwitchingProtocols)
		w.hijacked = true
	}
	return conn, rw, err
}

func (w *response) start(code int) {
	if w.status == 0 {
		w.status, w.took = code, time.Since(w.begun)
	}
}

// waited is how long the client waited for the answer to begin: what a stream or a
// wait takes after that says nothing about the daemon.
func (w *response) waited() time.Duration {
	if w.took == 0 {
		return time.Since(w.begun)
	}
	return w.took
}

func (w *response) started() bool { return w.status != 0 || w.hijacked }
