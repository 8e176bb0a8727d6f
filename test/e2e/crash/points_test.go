package crash

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The rooms that change something outside of the store, whose commits have their points
// in store/bolt, and of the keeper, which daemon/failpoint.go wraps.
var rooms = []string{"container", "volume", "image", "daemon", "network", "mesh/host", "dataplane/linux"}

// changes are calls that change something that a next daemon finds.
var changes = regexp.MustCompile(`^(` + strings.Join([]string{
	`os\.(WriteFile|Rename|Remove|RemoveAll|Mkdir|MkdirAll|Link|Symlink|Truncate|Chown|Chmod)`,
	`unix\.(Mount|Unmount|Mknod|Rmdir|Unlinkat|Mkdirat)`,
	`netns\.(Create|New|Pin|PinSelf|Adopt|Remove|Unpin|Prepare|Dismantle|Delete)`,
	`etc\.(Write\w*|Rewrite\w*|Share)`,
	`.*Service\.(Create|Delete|Update|AddResource|DeleteResource|Start|Exec|DeleteProcess|Kill|Pause|Resume|CloseIO|Remove|Prepare|Commit|View|Set)`,
	`.*\.nft\.commit`, `rtnl!do`, `nfConn!commit`, `.*\.(rt|late)\.do`, `.*\.ConntrackDelete\w*`, `exec\.Command(Context)?`,
}, "|") + `)$`)

// points are calls of a hook.
var points = regexp.MustCompile(`(^|\.)(Hook|hook|point|step|around|call)$`)

// excused are functions whose changes have no point, and why that is right: a room and
// a function.
var excused = map[string]string{
	"container.New":    "folders of the daemon's own, made at each start before anything else",
	"container.ps":     "a program that only looks",
	"linux.applier.up": "a link's up, which only looks, has its name; this one is called by dispatch, between points",
	"linux.New":        "the pins' folder once more: daemon/engine.go has a point around all of it",
	"volume.New":       "the folder of all volumes, made at each start",
	"daemon.Run":       "the roots, sockets and the pid file: made anew at each start, and looked at by nobody else",
}

// source is one room's functions.
type source struct {
	room  string
	calls map[string][]string // by function: what it calls, as written
	at    map[string]token.Position
}

func read(t *testing.T, room string) *source {
	t.Helper()
	s := &source{room: room, calls: map[string][]string{}, at: map[string]token.Position{}}
	files, err := filepath.Glob(filepath.Join("../../..", room, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files, %v", room, err)
	}
	fset := token.NewFileSet()
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") || strings.Contains(filepath.Base(f), "uninstall") || strings.HasSuffix(f, "repairstore.go") {
			continue // what works without a daemon is no daemon's step
		}
		parsed, err := parser.ParseFile(fset, f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				name, self := fn.Name.Name, ""
				if fn.Recv != nil {
					r := fn.Recv.List[0]
					typ := written(r.Type, nil)
					name = typ + "." + name
					if len(r.Names) > 0 {
						self = r.Names[0].Name
					}
					for _, c := range calledIn(fn.Body) {
						if m, ok := strings.CutPrefix(c, self+"."); ok && self != "" && !strings.Contains(m, ".") {
							c = typ + "!" + m // on itself
						}
						s.calls[name] = append(s.calls[name], c)
					}
				} else {
					s.calls[name] = append(s.calls[name], calledIn(fn.Body)...)
				}
				s.at[name] = fset.Position(fn.Pos())
			}
		}
	}
	return s
}

// calledIn lists calls as written, with a variable that holds a service named as that.
// A function that is handed on by its name counts as called.
func calledIn(body ast.Node) (out []string) {
	service := map[string]string{}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if len(n.Lhs) == 1 && len(n.Rhs) == 1 {
				if v, ok := n.Lhs[0].(*ast.Ident); ok {
					if w := written(n.Rhs[0], service); strings.HasSuffix(w, "Service") {
						service[v.Name] = w
					}
				}
			}
		case *ast.CallExpr:
			out = append(out, written(n.Fun, service))
			for _, a := range n.Args {
				switch a.(type) {
				case *ast.Ident:
					out = append(out, written(a, service))
				}
			}
		}
		return true
	})
	return out
}

func written(e ast.Expr, service map[string]string) string {
	switch e := e.(type) {
	case *ast.Ident:
		if s, ok := service[e.Name]; ok {
			return s
		}
		return e.Name
	case *ast.SelectorExpr:
		return written(e.X, service) + "." + e.Sel.Name
	case *ast.CallExpr:
		return written(e.Fun, service)
	case *ast.StarExpr:
		return written(e.X, service)
	case *ast.ParenExpr:
		return written(e.X, service)
	}
	return "_"
}

// named are the room's functions that a call may mean: of a method on another thing, all
// of that name.
func (s *source) named(call string) (out []string) {
	if own := strings.Replace(call, "!", ".", 1); own != call {
		if _, ok := s.calls[own]; ok {
			return []string{own}
		}
		_, call, _ = strings.Cut(call, "!") // of what is embedded
		call = "_." + call
	}
	i := strings.LastIndexByte(call, '.')
	for fn := range s.calls {
		if i < 0 && fn == call || i >= 0 && strings.HasSuffix(fn, call[i:]) && !packages[call[:i]] {
			out = append(out, fn)
		}
	}
	return out
}

// packages whose functions are called like the rooms' methods.
var packages = map[string]bool{"os": true, "unix": true, "exec": true, "io": true, "fmt": true, "linux": true, "netns": true, "etc": true, "time": true,
	"slices": true, "maps": true, "strings": true, "filepath": true, "errors": true, "sync": true, "json": true, "dataplane": true, "diff": true, "bolt": true,
	"context": true, "netlink": true, "nl": true, "net": true, "cnm": true, "dns": true, "ipam": true, "events": true, "keeper": true, "store": true}

// bare are functions from which a change is reached without passing a point.
func (s *source) bare() (out []string) {
	last := func(c string) string { return c[strings.LastIndexByte(c, '.')+1:] }
	callers := map[string][]string{}
	hooked := map[string]bool{}
	for fn, calls := range s.calls {
		for _, c := range calls {
			if points.MatchString(strings.ReplaceAll(c, "!", ".")) && fn != last(c) {
				hooked[fn] = true
			}
			if changes.MatchString(c) {
				continue
			}
			for _, name := range s.named(c) {
				if name != fn {
					callers[name] = append(callers[name], fn)
				}
			}
		}
	}
	// Up from those that change something, until there is a point or nobody calls.
	for fn, calls := range s.calls {
		i := slices.IndexFunc(calls, changes.MatchString)
		if i < 0 {
			continue
		}
		seen := map[string]bool{}
		var up func(name string, path []string)
		up = func(name string, path []string) {
			if seen[name] || hooked[name] || excused[filepath.Base(s.room)+"."+name] != "" {
				return
			}
			seen[name] = true
			path = append(slices.Clone(path), name)
			if len(callers[name]) == 0 {
				slices.Reverse(path)
				out = append(out, fmt.Sprintf("%s: %s > %s", s.at[fn], strings.Join(path, " > "), calls[i]))
			}
			for _, c := range callers[name] {
				up(c, path)
			}
		}
		up(fn, nil)
	}
	slices.Sort(out)
	return out
}

// TestEveryChangeHasItsPoint: whatever changes something that a next daemon finds is
// between two fail points, at which the tests here kill.
func TestEveryChangeHasItsPoint(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, room := range rooms {
		s := read(t, room)
		for fn := range s.calls {
			known[filepath.Base(room)+"."+fn] = true
		}
		for _, b := range s.bare() {
			t.Errorf("no fail point: %s", strings.TrimPrefix(b, "../../../"))
		}
	}
	for fn := range maps.Keys(excused) {
		if !known[fn] {
			t.Errorf("%s is excused, and there is no such function", fn)
		}
	}
}
