package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

// The benchmarks of attach_test.go in the table's words.
var attachRows = []struct{ name, benchmark string }{
	{"bare attach, without containerd", "BenchmarkAttach/plain"},
	{"bare attach, with one published port", "BenchmarkAttach/port"},
	{"bare detach", "BenchmarkDetach"},
}

// attach measures what the controller takes without containerd: the benchmark in
// this folder's tests, which is free to wire the rooms as cmd does.
func (b *bench) attach(ctx context.Context) error {
	var names []string
	for _, r := range attachRows {
		names = append(names, r.name)
	}
	if !b.wanted(names...) {
		return nil
	}
	c := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Attach|Detach", "-benchtime", "200x", "./bench")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test ./bench: %w\n%s", err, out)
	}
	medians := readBenchmarks(string(out))
	for i, r := range attachRows {
		v, ok := medians[r.benchmark]
		if !ok {
			return fmt.Errorf("%s did not run:\n%s", r.benchmark, out)
		}
		g := goal{value: 2}
		if i == 2 {
			g = goal{}
		}
		b.table.row(r.name, milliseconds, v/1000, math.NaN(), g)
	}
	return nil
}

var benchmarkLine = regexp.MustCompile(`(?m)^(Benchmark\S*?)(?:-\d+)?\s.*?([0-9.]+) µs-median`)

// readBenchmarks finds the medians that `go test -bench` printed.
func readBenchmarks(out string) map[string]float64 {
	medians := map[string]float64{}
	for _, m := range benchmarkLine.FindAllStringSubmatch(out, -1) {
		if v, err := strconv.ParseFloat(m[2], 64); err == nil {
			medians[m[1]] = v
		}
	}
	return medians
}
