package cnm

import (
	"errors"
	"fmt"
)

// The error classes. Every error that leaves a package wraps exactly one of
// them (with Errorf below), so that one place per door maps a class to its
// HTTP, CNI or plugin code. An error of no class is a fault of ours (500).
var (
	ErrNotFound    = errors.New("not found")          // the named object does not exist (404)
	ErrConflict    = errors.New("conflict")           // the name, address, port or state is held by another (409)
	ErrInvalid     = errors.New("invalid")            // the request can never succeed as written (400)
	ErrUnavailable = errors.New("unavailable")        // something we depend on is away; try again (503)
	ErrUnsupported = errors.New("not yet")            // a known wish that Linkspan does not grant yet (501)
	ErrForbidden   = errors.New("forbidden")          // not allowed on this object, ever (403)
	ErrNotModified = errors.New("not modified")       // it is already in that state (304)
	ErrExhausted   = errors.New("resource exhausted") // pool, range or disk is full (500, as Docker answers)
)

// classed keeps the person's sentence free of the class word: Error() is the
// sentence alone, errors.Is finds the class and any %w inside the sentence.
type classed struct {
	class error
	err   error
}

func (e *classed) Error() string   { return e.err.Error() }
func (e *classed) Unwrap() []error { return []error{e.class, e.err} }

// Errorf makes an error of the given class. The sentence names the object,
// who holds it, and the cure; %w keeps causes.
func Errorf(class error, format string, args ...any) error {
	return &classed{class: class, err: fmt.Errorf(format, args...)}
}

// NotFound, Conflict and Invalid are the classes most often made.
func NotFound(format string, args ...any) error { return Errorf(ErrNotFound, format, args...) }
func Conflict(format string, args ...any) error { return Errorf(ErrConflict, format, args...) }
func Invalid(format string, args ...any) error  { return Errorf(ErrInvalid, format, args...) }

// Unsupported says that a wish is known and not granted yet: it names what was
// asked for and why it is refused, so that nothing fails silently.
func Unsupported(format string, args ...any) error { return Errorf(ErrUnsupported, format, args...) }
