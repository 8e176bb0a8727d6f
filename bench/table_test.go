package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestVerdict(t *testing.T) {
	none := math.NaN()
	for _, c := range []struct {
		goal         goal
		ours, theirs float64
		want, text   string
	}{
		{goal{}, 1, 2, "-", "-"},
		{goal{value: 5}, 4.9, none, "PASS", "≤ 5.00 ms"},
		{goal{value: 5}, 5.1, 86, "MISS", "≤ 5.00 ms"},
		{goal{value: 5}, -3, 86, "PASS", "≤ 5.00 ms"}, // noise: less than none
		{goal{value: 5}, none, 86, "-", "≤ 5.00 ms"},
		{notLess, 9, 10, "PASS", "≥ 0.90x"},
		{notLess, 8, 10, "MISS", "≥ 0.90x"},
		{notLess, 8, none, "-", "≥ 0.90x"},
		{notMore, 10.9, 10, "PASS", "≤ 1.10x"},
		{notMore, 11.1, 10, "MISS", "≤ 1.10x"},
	} {
		if got := c.goal.verdict(c.ours, c.theirs); got != c.want {
			t.Errorf("%v against %v, goal %+v: %s", c.ours, c.theirs, c.goal, got)
		}
		if got := c.goal.text(milliseconds); got != c.text {
			t.Errorf("goal %+v reads %s", c.goal, got)
		}
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	tb := &table{out: &out}
	tb.row("one", milliseconds, 2.5, 86, goal{value: 5})
	tb.row("two", perSecond, 800, 1000, notLess)
	tb.row("three", gigabits, 10, math.NaN(), notLess)
	tb.note("a note on %s", "one")
	tb.end(90 * time.Second)
	for _, want := range []string{"linkspan", "2.50 ms", "86.00 ms", "0.03", "PASS", "800/s", "MISS", "10.00 Gbit/s", "a note on one\n", "1 PASS, 1 MISS, in 90 s\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "target"); n != 1 {
		t.Errorf("the head is there %d times", n)
	}
}

func TestNumbers(t *testing.T) {
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Errorf("median %v", m)
	}
	if m := median([]float64{4, 1, 2, 9}); m != 3 {
		t.Errorf("median %v", m)
	}
	if low, high := quartiles([]float64{8, 7, 6, 5, 4, 3, 2, 1}); low != 3 || high != 7 {
		t.Errorf("quartiles %v %v", low, high)
	}
	if b := best([]float64{2, 3, 1}, true); b != 3 {
		t.Errorf("most %v", b)
	}
	if b := best([]float64{2, 3, 1}, false); b != 1 {
		t.Errorf("least %v", b)
	}
	low, high := quartiles(nil)
	for _, v := range []float64{median(nil), best(nil, true), low, high} {
		if !math.IsNaN(v) {
			t.Errorf("of nothing: %v", v)
		}
	}
	if spread(nil) != "-" {
		t.Error(spread(nil))
	}
}

func TestReadBenchmarks(t *testing.T) {
	got := readBenchmarks(`goos: linux
BenchmarkAttach/plain-2         	     100	   5701436 ns/op	      2147 µs-median	      1629 µs-p10	     15591 µs-p99
BenchmarkAttach/port            	     100	   5416568 ns/op	      2290 µs-median
BenchmarkDetach-16              	     100	   3635661 ns/op	      1291.5 µs-median	      1148 µs-p10
BenchmarkOther-2                	     100	   3635661 ns/op
`)
	if len(got) != 3 || got["BenchmarkAttach/plain"] != 2147 || got["BenchmarkAttach/port"] != 2290 || got["BenchmarkDetach"] != 1291.5 {
		t.Errorf("%v", got)
	}
}

// TestListening: the server's socket is found without a connection to it.
func TestListening(t *testing.T) {
	dir := t.TempDir() // as /proc/PID
	if err := os.Mkdir(filepath.Join(dir, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	const text = `  sl  local_address rem_address   st tx_queue
   0: 0100007F:1451 00000000:0000 0A 00000000:00000000
   1: 0100007F:2329 0100007F:A2F8 01 00000000:00000000
`
	if err := os.WriteFile(filepath.Join(dir, "net", "tcp"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := listening(dir, 5201, time.Second); err != nil {
		t.Error(err)
	}
	if err := listening(dir, 9001, time.Millisecond); err == nil {
		t.Error("a connection was taken for a listener")
	}
}
