package deps

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "linkspan"

// file is one Go file of the module.
type file struct {
	name    string // from the module's root, with slashes
	dir     string // its package's path below the module; "" is the root
	test    bool
	imports []string // of the module: without its name; others as they are
	lines   int
	ast     *ast.File
}

// tree is the module's text.
type tree struct {
	fset  *token.FileSet
	files []file
	texts map[string]string // every text file, Go or not
}

var load = sync.OnceValues(func() (*tree, error) { return loadTree(filepath.Join("..", "..")) })

func repo(t *testing.T) *tree {
	t.Helper()
	tr, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.files) < 50 {
		t.Fatalf("only %d Go files found: the tree was not read", len(tr.files))
	}
	return tr
}

func loadTree(root string) (*tree, error) {
	tr := &tree{fset: token.NewFileSet(), texts: map[string]string{}}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a test that runs beside us removed its folder
		}
		rel, _ := filepath.Rel(root, p)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci" || rel == "bin" || rel == "vendor" || d.Name() == "cache") {
				return filepath.SkipDir
			}
			return nil
		}
		if info, err := d.Info(); err != nil || !info.Mode().IsRegular() || info.Size() > 4<<20 {
			return nil
		}
		data, err := os.ReadFile(p)
		if err != nil || strings.IndexByte(string(data[:min(len(data), 8000)]), 0) >= 0 {
			return nil // gone, or not text
		}
		tr.texts[rel] = string(data)
		if !strings.HasSuffix(rel, ".go") || strings.Contains("/"+rel, "/testdata/") {
			return nil
		}
		f, err := parseFile(tr.fset, rel, data)
		if err != nil {
			return err
		}
		tr.files = append(tr.files, f)
		return nil
	})
	return tr, err
}

func parseFile(fset *token.FileSet, name string, data []byte) (file, error) {
	parsed, err := parser.ParseFile(fset, name, data, parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	f := file{
		name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
		lines: strings.Count(string(data), "\n"), ast: parsed,
	}
	if f.dir == "." {
		f.dir = ""
	}
	for _, i := range parsed.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return file{}, err
		}
		if p == module {
			p = module + "/"
		}
		f.imports = append(f.imports, strings.TrimPrefix(p, module+"/"))
	}
	return f, nil
}

// packages are the folders with Go files, sorted.
func (tr *tree) packages() []string {
	var out []string
	for _, f := range tr.files {
		if !slices.Contains(out, f.dir) {
			out = append(out, f.dir)
		}
	}
	slices.Sort(out)
	return out
}

// isStd says whether an import is of the standard library: its first element has
// no dot, and it is no package of ours.
func (tr *tree) isStd(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".") && !tr.isOurs(imp)
}

func (tr *tree) isOurs(imp string) bool {
	return slices.ContainsFunc(tr.files, func(f file) bool { return f.dir == imp })
}

// match matches a path: "a/b" itself, "a/*" one below, "a/..." itself and all
// below.
func match(pattern, p string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return p == base || strings.HasPrefix(p, base+"/")
	}
	if base, ok := strings.CutSuffix(pattern, "/*"); ok {
		rest, below := strings.CutPrefix(p, base+"/")
		return below && !strings.Contains(rest, "/")
	}
	return pattern == p
}

func matchAny(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return match(pattern, p) })
}
