package logs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The tests here need no luck: the log rotates at one certain look of the reader at
// the files, by a certain number of steps, for each look and number that there are.

// steps are rotations in single steps, each of them one system call of the keeper's.
func (r *rotor) steps(rotations int) (steps []func()) {
	exts := []string{""}
	if r.compress {
		exts = append(exts, ".gz")
	}
	for n := range rotations {
		for i := r.count + n - 1; i >= 1; i-- {
			for _, ext := range exts {
				steps = append(steps, func() { r.check(os.Rename(r.name(i)+ext, r.name(i+1)+ext)) })
			}
		}
		steps = append(steps, func() {
			if r.links {
				r.check(os.Link(r.path, r.name(1)))
			} else {
				r.check(os.Rename(r.path, r.name(1)))
			}
		}, func() {
			r.entry(r.path + ".new")
			r.check(os.Rename(r.path+".new", r.path))
		})
		if r.compress {
			steps = append(steps, func() { r.zip(r.name(1)) }, func() { r.check(os.Remove(r.name(1))) })
		}
	}
	return steps
}

// entry makes a file with the next entry.
func (r *rotor) entry(name string) {
	r.check(os.WriteFile(name, []byte(line(r.count, "stdout", fmt.Sprintf("%d\n", r.count))), 0o600))
	r.count++
}

// meeting is when a reader and a rotation meet: the files move by count steps at the
// look at which, and by one step at each pause'th look after it.
type meeting struct{ which, count, pause int }

// schedule runs read so. It says whether there were so many looks, and so many steps.
func schedule(c *chain, steps []func(), m meeting, read func()) (looked, stepped bool) {
	looks, done := 0, 0
	c.look = func() {
		n := 0
		switch {
		case looks == m.which:
			n = m.count
		case looks > m.which && (looks-m.which)%m.pause == 0:
			n = 1
		}
		looks++
		for ; n > 0 && done < len(steps); n-- {
			steps[done]()
			done++
		}
	}
	read()
	for ; done < len(steps); done++ {
		steps[done]()
	}
	return looks > m.which, m.count <= len(steps)
}

// TestEachLook: a reader of all files, one of the tail, and a follower that was at
// any of the files, meet two rotations at each of their looks.
func TestEachLook(t *testing.T) {
	const old, rotations = 4, 2
	for _, how := range []struct {
		compress, links bool
	}{{false, true}, {true, true}, {false, false}, {true, false}} {
		t.Run(fmt.Sprintf("compressed %v, links %v", how.compress, how.links), func(t *testing.T) {
			t.Parallel()
			runs, dir := 0, t.TempDir()
			for _, pause := range []int{1, 5} {
				for m, reader := (meeting{0, 1, pause}), 0; reader < old+2; { // from each file on, and of all
					r := &rotor{t: t, path: filepath.Join(dir, fmt.Sprint(runs), "log"), compress: how.compress, links: how.links}
					r.check(os.Mkdir(filepath.Dir(r.path), 0o700))
					for i := range old {
						name := r.name(old - 1 - i)
						r.entry(name)
						if i < old-1 && how.compress {
							r.gzip(name)
						}
					}
					steps := r.steps(rotations)
					var wrong string
					var looked, stepped bool
					if reader < old {
						wrong, looked, stepped = followFrom(t, r, steps, old-1-reader, m)
					} else {
						wrong, looked, stepped = readAll(t, r, steps, m, reader == old+1)
					}
					runs++
					os.RemoveAll(filepath.Dir(r.path))
					if wrong != "" {
						t.Fatalf("reader %d, %+v: %s", reader, m, wrong)
					}
					switch {
					case !looked: // all looks that it has
						reader, m = reader+1, meeting{0, 1, pause}
					case !stepped:
						m.which, m.count = m.which+1, 1
					default:
						m.count++
					}
				}
			}
			t.Log(runs, "ways to meet")
		})
	}
}

// followFrom goes from the file at a place to the youngest; it is told what is wrong.
func followFrom(t *testing.T, r *rotor, steps []func(), place int, m meeting) (wrong string, looked, stepped bool) {
	c := &chain{path: r.path}
	s, err := c.open(place)
	if err != nil || s == nil {
		t.Fatal(place, s, err)
	}
	defer func() { s.f.Close() }()
	var seen []string
	go1 := func() {
		for {
			next, n, gone, err := c.newer(s, place)
			if err != nil || gone {
				wrong = fmt.Sprint("error, gone: ", err, gone)
				return
			}
			if next == nil {
				return
			}
			s.f.Close()
			s, place = next, n
			seen = append(seen, s.number(t))
		}
	}
	first := r.count - 1 - place
	looked, stepped = schedule(c, steps, m, go1)
	go1() // what came after its last look
	var want []string
	for i := first + 1; i < r.count; i++ {
		want = append(want, fmt.Sprint(i))
	}
	if wrong == "" && !slices.Equal(seen, want) {
		wrong = fmt.Sprintf("saw %q, want %q", seen, want)
	}
	return wrong, looked, stepped
}

// readAll reads what is there: each file that was there before, in order, with as
// many as came meanwhile.
func readAll(t *testing.T, r *rotor, steps []func(), m meeting, tail bool) (wrong string, looked, stepped bool) {
	o := all()
	if tail {
		o.Tail = 2
	}
	before := r.count
	c := copier{o: &o, files: &chain{path: r.path}}
	var seen []string
	looked, stepped = schedule(c.files, steps, m, func() {
		s, n, err := c.files.youngest()
		if err != nil {
			wrong = err.Error()
			return
		}
		list, offsets, err := c.begin(s, n)
		if err != nil || len(list) != len(offsets) {
			wrong = fmt.Sprint(len(list), len(offsets), err)
		}
		for _, s := range slices.Backward(list) {
			seen = append(seen, s.number(t))
		}
		closeAll(list)
	})
	for last := before; last <= r.count; last++ {
		from := 0
		if tail {
			from = last - 2
		}
		if strings.Join(seen, "\n")+"\n" == numbers(from, last) {
			return wrong, looked, stepped
		}
	}
	return fmt.Sprintf("%s saw %q of %d to %d", wrong, seen, before, r.count), looked, stepped
}

// number is what a file of one entry says.
func (s *source) number(t *testing.T) string {
	r, err := s.reader(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	e, ok := parse([]byte(strings.TrimSuffix(string(b), "\n")))
	if err != nil || !ok {
		t.Fatalf("%q %v", b, err)
	}
	return strings.TrimSuffix(e.Log, "\n")
}
