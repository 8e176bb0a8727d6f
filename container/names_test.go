package container

import (
	"errors"
	"strings"
	"testing"

	"linkspan/cnm"
)

func blank() *Engine {
	return &Engine{entries: map[string]*entry{}, names: map[string]string{}, execs: map[string]*execEntry{}, unborn: map[string]bool{}}
}

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := newID()
		if !isID(id) || seen[id] || strings.Trim(id[:12], "0123456789") == "" {
			t.Fatal(id)
		}
		seen[id] = true
	}
	for _, s := range []string{"", "abc", strings.Repeat("g", 64), strings.Repeat("A", 64)} {
		if isID(s) {
			t.Error(s)
		}
	}
}

func TestClaim(t *testing.T) {
	e := blank()
	if n, err := e.claim("/web", "id1"); err != nil || n != "web" {
		t.Fatal(n, err)
	}
	_, err := e.claim("web", "id2")
	const words = `Conflict. The container name "/web" is already in use by container "id1". You have to remove (or rename) that container to be able to reuse that name.`
	if !errors.Is(err, cnm.ErrConflict) || err.Error() != words {
		t.Errorf("%v", err)
	}
	e.unclaim("web", "id2") // not the holder
	if _, err := e.claim("web", "id3"); err == nil {
		t.Error("a name was given back by somebody else")
	}
	e.unclaim("web", "id1")
	if _, err := e.claim("web", "id4"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"a", "-ab", "a b", "a/b", "é", ".."} {
		if _, err := e.claim(bad, "x"); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	seen := map[string]bool{}
	for i := range 6000 { // more than there are pairs: numbers must follow
		n, err := e.claim("", itoa(i))
		if err != nil || seen[n] || !validName.MatchString(n) {
			t.Fatal(n, err)
		}
		seen[n] = true
	}
}

func TestFind(t *testing.T) {
	e := blank()
	add := func(id, name string) {
		e.entries[id] = newEntry(&Container{ID: id, Name: name})
		e.names[name] = id
	}
	a, b := "aaaa1111", "aaaa2222"
	add(a, "web")
	add(b, "aaaa1") // a name that is the beginning of another's id
	for ref, want := range map[string]string{a: a, "web": a, "/web": a, "aaaa1": b, "aaaa11": a, "aaaa2": b} {
		en, err := e.find(ref)
		if err != nil || en.id != want {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := e.find("aaaa"); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "multiple IDs found with provided prefix: aaaa") {
		t.Error(err)
	}
	for _, ref := range []string{"", "nope", "/"} {
		if _, err := e.find(ref); !errors.Is(err, cnm.ErrNotFound) || !strings.HasPrefix(err.Error(), "No such container: ") {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestParsePs(t *testing.T) {
	out := "UID        PID  PPID CMD\nroot      1234     1 sleep 1 2\nroot      99     1 other\n             1235 thread\nroot 1236 1\n"
	titles, rows, err := parsePs(out, []int{1234, 1236})
	if err != nil || len(titles) != 4 || len(rows) != 2 || rows[0][3] != "sleep 1 2" || rows[1][1] != "1236" {
		t.Errorf("%v %v %v", titles, rows, err)
	}
	if _, _, err := parsePs("USER CMD\n", nil); !errors.Is(err, cnm.ErrInvalid) {
		t.Error(err)
	}
}

func TestDetachKeys(t *testing.T) {
	for in, want := range map[string]string{"": "\x10\x11", "ctrl-a": "\x01", "a,ctrl-],b": "a\x1db"} {
		if got, err := detachKeys(in); err != nil || string(got) != want {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
	if _, err := detachKeys("ctrl-!"); !errors.Is(err, cnm.ErrInvalid) {
		t.Error(err)
	}
}

func TestRuntimeError(t *testing.T) {
	for in, code := range map[string]int{
		`exec: "x": executable file not found in $PATH: unknown`: 127,
		`stat /x: no such file or directory: unknown`:            127,
		`exec: "/etc": permission denied: unknown`:               126,
		`exec: "/etc": is a directory`:                           126,
		`not a directory: unknown`:                               127,
		`no space left on device: unknown`:                       128,
	} {
		err := runtimeError("", errors.New(in))
		if startCode(err) != code || strings.HasSuffix(err.Error(), ": unknown") || errors.Is(err, cnm.ErrInvalid) != (code != 128) {
			t.Errorf("%s: %d %v", in, startCode(err), err)
		}
	}
	away := cnm.Errorf(cnm.ErrUnavailable, "containerd does not answer")
	if !errors.Is(runtimeError("", away), cnm.ErrUnavailable) {
		t.Error("being away must stay being away")
	}
}
