package cnm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
)

var classes = map[string]error{
	"not found": ErrNotFound, "conflict": ErrConflict, "invalid": ErrInvalid, "unavailable": ErrUnavailable,
	"not yet": ErrUnsupported, "forbidden": ErrForbidden, "not modified": ErrNotModified, "resource exhausted": ErrExhausted,
}

func TestClassAndSentence(t *testing.T) {
	for name, class := range classes {
		if class.Error() != name {
			t.Errorf("class %q calls itself %q", name, class)
		}
		err := Errorf(class, "container %s: %d things", "web", 3)
		// The sentence is what a person reads: without the class's word.
		if err.Error() != "container web: 3 things" {
			t.Errorf("%s: %q", name, err)
		}
		for other, c := range classes {
			if errors.Is(err, c) != (other == name) {
				t.Errorf("an error of class %s is %s: %v", name, other, errors.Is(err, c))
			}
		}
		outer := fmt.Errorf("while starting: %w", err)
		if !errors.Is(outer, class) || outer.Error() != "while starting: container web: 3 things" {
			t.Errorf("wrapped: %q", outer)
		}
	}
}

func TestCauseIsKept(t *testing.T) {
	_, cause := os.Open("/none such")
	err := Errorf(ErrUnavailable, "state file: %w; mount it", cause)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v lost its class or cause", err)
	}
	var path *fs.PathError
	if !errors.As(err, &path) || path.Path != "/none such" {
		t.Errorf("%v lost its type", err)
	}
	if want := "state file: open /none such: no such file or directory; mount it"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	two := Errorf(ErrExhausted, "%w and %w", fs.ErrClosed, fs.ErrExist)
	if !errors.Is(two, fs.ErrClosed) || !errors.Is(two, fs.ErrExist) || !errors.Is(two, ErrExhausted) {
		t.Errorf("%v lost one of two causes", two)
	}
}

func TestShortForms(t *testing.T) {
	for class, err := range map[error]error{
		ErrNotFound:    NotFound("no container %q", "x"),
		ErrConflict:    Conflict("no container %q", "x"),
		ErrInvalid:     Invalid("no container %q", "x"),
		ErrUnsupported: Unsupported("no container %q", "x"),
	} {
		if !errors.Is(err, class) || err.Error() != `no container "x"` {
			t.Errorf("%v: %v", class, err)
		}
	}
}
