package keeper

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"linkspan/cnm"
)

// Error names the port and the kernel's reason. Who holds the port is the
// daemon's to find out: the keeper knows no containers and reads no /proc.
func (e *PortError) Error() string {
	where := fmt.Sprintf("port %d", e.Port)
	if e.Addr.IsValid() {
		where = netip.AddrPortFrom(e.Addr, e.Port).String()
	}
	cure := ""
	if syscall.Errno(e.Errno) == syscall.EMFILE {
		cure = " in the keeper (each reserved port is one): raise LimitNOFILE= of the service, or ulimit -n, and start the daemon after ending the keeper"
	}
	return fmt.Sprintf("host port %s/%s cannot be reserved: %s%s", where, e.Proto, syscall.Errno(e.Errno), cure)
}

// Unwrap gives the class and the errno, for errors.Is.
func (e *PortError) Unwrap() []error {
	class := cnm.ErrUnavailable
	switch no := syscall.Errno(e.Errno); no {
	case syscall.EADDRINUSE:
		class = cnm.ErrConflict
	case syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.EINVAL:
		class = cnm.ErrInvalid
	case syscall.EACCES, syscall.EPERM:
		class = cnm.ErrForbidden
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		class = cnm.ErrExhausted
	}
	return []error{class, syscall.Errno(e.Errno)}
}

// The classes as they travel. The words are protocol: never change one.
var classes = []struct {
	word  string
	class error
}{
	{"not-found", cnm.ErrNotFound},
	{"conflict", cnm.ErrConflict},
	{"invalid", cnm.ErrInvalid},
	{"unavailable", cnm.ErrUnavailable},
	{"unsupported", cnm.ErrUnsupported},
	{"forbidden", cnm.ErrForbidden},
	{"exhausted", cnm.ErrExhausted},
}

// wireError is an error on its way to the client.
type wireError struct {
	Class   string     `json:"class,omitempty"`
	Message string     `json:"message"`
	Port    *PortError `json:"port,omitempty"`
}

func toWire(err error) *wireError {
	w := &wireError{Message: err.Error()}
	errors.As(err, &w.Port)
	for _, c := range classes {
		if errors.Is(err, c.class) {
			w.Class = c.word
			break
		}
	}
	return w
}

// err is the error as the client's caller sees it. A class that this client
// does not know becomes a plain error, never success.
func (w *wireError) err() error {
	if w.Port != nil {
		return w.Port
	}
	for _, c := range classes {
		if c.word == w.Class {
			return cnm.Errorf(c.class, "%s", w.Message)
		}
	}
	return errors.New(w.Message)
}
