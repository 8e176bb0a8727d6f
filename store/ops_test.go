package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"linkspan/cnm"
)

func TestCheckOps(t *testing.T) {
	var many []Op
	for i := range 100 {
		many = append(many, Op{Key: fmt.Sprint("k", i)})
	}
	for _, c := range []struct {
		name string
		ops  []Op
		want string
	}{
		{"none", nil, ""},
		{"one", []Op{{Key: "a"}}, ""},
		{"the longest", []Op{{Key: strings.Repeat("k", MaxKey)}}, ""},
		{"many", many, ""},
		{"no key", []Op{{Key: "a"}, {}}, "an operation has an empty key"},
		{"too long", []Op{{Key: strings.Repeat("k", MaxKey+1)}}, "has 32769 bytes; the limit is 32768"},
		{"twice", []Op{{Key: "a"}, {Key: "b"}, {Key: "a", Value: []byte("x")}}, `the key "a" is written twice in one commit`},
		{"twice among many", append(many[:99:99], Op{Key: "k7"}), `the key "k7" is written twice`},
	} {
		err := CheckOps(c.ops)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestHookPoint(t *testing.T) {
	for _, c := range []struct {
		ops           []Op
		before, after string
	}{
		{[]Op{{Key: "sandboxes/1"}, {Key: "names/x"}}, "store.sandboxes.before", "store.sandboxes.after"},
		{[]Op{{Key: "a/b/c"}}, "store.a.before", "store.a.after"},
		{[]Op{{Key: "instance"}}, "store.instance.before", "store.instance.after"},
		{nil, "store.empty.before", "store.empty.after"},
	} {
		if b, a := HookPoint(c.ops, false), HookPoint(c.ops, true); b != c.before || a != c.after {
			t.Errorf("%v: %s, %s", c.ops, b, a)
		}
	}
}
