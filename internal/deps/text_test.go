package deps

import (
	"go/ast"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestFileLength: a file is read in one sitting.
func TestFileLength(t *testing.T) {
	var sources, tests []int
	source, test := map[string]int{}, map[string]int{}
	for _, f := range repo(t).files {
		if f.lines > 600 {
			t.Errorf("%s has %d lines; the limit is 600: find the second noun in it", f.name, f.lines)
		}
		if f.test {
			tests = append(tests, f.lines)
			test[f.dir] += f.lines
		} else {
			sources = append(sources, f.lines)
			source[f.dir] += f.lines
		}
	}
	for name, lines := range map[string][]int{"source": sources, "test": tests} {
		slices.Sort(lines)
		n := len(lines)
		t.Logf("%s files: %d, median %d lines, nine of ten below %d, longest %d", name, n, lines[n/2], lines[n*9/10], lines[n-1])
	}
	if m := sources[len(sources)/2]; m >= 150 {
		t.Errorf("the median source file has %d lines, it should be below 150", m)
	}
	for _, dir := range slices.Sorted(maps.Keys(source)) {
		if source[dir] > 200 && test[dir]*2 < source[dir] {
			t.Logf("package %s has %d lines and %d lines of tests", dir, source[dir], test[dir])
		}
	}
}

// TestCalls: calls that have no place.
func TestCalls(t *testing.T) {
	tr := repo(t)
	for _, f := range tr.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if fn, ok := n.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !f.test && !registers(fn) {
				t.Errorf("%s: func init does more than register: nothing happens before main", tr.fset.Position(fn.Pos()))
			}
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			at := tr.fset.Position(sel.Pos())
			switch call := pkg.Name + "." + sel.Sel.Name; {
			case call == "context.TODO":
				t.Errorf("%s: %s: decide whose context it is", at, call)
			case pkg.Name == "log" && strings.HasPrefix(sel.Sel.Name, "Fatal") && imports(f, "log") && !match("cmd/...", f.dir) && !match("test/...", f.dir):
				t.Errorf("%s: %s: return the error; only cmd ends the process", at, call)
			}
			return true
		})
	}
}

func imports(f file, imp string) bool { return slices.Contains(f.imports, imp) }

// registers says whether an init consists of calls to functions named Register….
func registers(fn *ast.FuncDecl) bool {
	for _, s := range fn.Body.List {
		e, ok := s.(*ast.ExprStmt)
		if !ok {
			return false
		}
		call, ok := e.X.(*ast.CallExpr)
		if !ok {
			return false
		}
		name := ""
		switch fun := call.Fun.(type) {
		case *ast.Ident:
			name = fun.Name
		case *ast.SelectorExpr:
			name = fun.Sel.Name
		}
		if !strings.HasPrefix(name, "Register") && !strings.HasPrefix(name, "register") {
			return false
		}
	}
	return true
}

// TestSkips: a test may be skipped only through package probe, which prints why
// and the cure, so that a run without root says what it did not do.
func TestSkips(t *testing.T) {
	tr := repo(t)
	for _, f := range tr.files {
		if f.dir == "probe" || f.dir == "internal/deps" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Skip" && sel.Sel.Name != "Skipf" && sel.Sel.Name != "SkipNow" {
				return true
			}
			switch id, _ := sel.X.(*ast.Ident); {
			case id == nil || id.Name != "t" && id.Name != "b" && id.Name != "f" && id.Name != "tb":
			case len(call.Args) == 0 && strings.Contains(f.name, "fuzz"): // an input that is not meant
			case len(call.Args) > 0 && skipReason(call.Args[0]):
			default:
				t.Errorf("%s: skip through package probe (probe.Require), so that the reason and the cure are printed", tr.fset.Position(call.Pos()))
			}
			return true
		})
	}
}

// skipReason accepts what speaks as probe does.
func skipReason(arg ast.Expr) bool {
	lit, ok := arg.(*ast.BasicLit)
	return ok && strings.HasPrefix(lit.Value, `"probe: `)
}

// TestText: what must not be in the repository.
func TestText(t *testing.T) {
	tr := repo(t)
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	// Put together here, so that this file is none of the finds.
	hosts := []string{
		"proxy." + "golang.org", "sum." + "golang.org", "goproxy" + ".", "registry." + "npmjs.org", "pypi" + ".org",
		"pythonhosted" + ".org", "crates" + ".io", "rubygems" + ".org", "repo1." + "maven.org", "artifactory" + ".",
	}
	var quoted []string
	for _, h := range hosts {
		quoted = append(quoted, regexp.QuoteMeta(h))
	}
	registry := regexp.MustCompile(`(?i)\b(` + strings.Join(quoted, "|") + `)`)
	machine := []string{"/work" + "/main", "/work" + "/shared", "/tmp" + "/ls/", "/root" + "/go/"}
	if len(root) > 1 && root != "/build" && root != "/src" {
		machine = append(machine, root)
	}
	for _, name := range slices.Sorted(maps.Keys(tr.texts)) {
		if name == "go.sum" {
			continue
		}
		for i, line := range strings.Split(tr.texts[name], "\n") {
			if m := registry.FindString(line); m != "" {
				t.Errorf("%s:%d names the package registry %s: the clients know their own", name, i+1, m)
			}
			for _, p := range machine {
				if strings.Contains(line, p) {
					t.Errorf("%s:%d names %s, a path of one machine", name, i+1, p)
				}
			}
		}
	}
}
