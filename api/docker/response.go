package docker

import (
	"bufio"
	"net"
	"net/http"
)

// response remembers how far the answer is, for the log and for errors that
// come too late to be told.
type response struct {
	http.ResponseWriter
	status   int
	hijacked bool
}

func (w *response) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find Flush and the deadlines.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack takes the connection over.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.hijacked = true
	}
	return conn, rw, err
}

func (w *response) started() bool { return w.status != 0 || w.hijacked }
