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

// benchmarks runs those of this folder's tests whose names match and returns what they
// print.
func benchmarks(ctx context.Context, match string, times int) (string, error) {
	c := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", match, "-benchtime", fmt.Sprintf("%dx", times), "./bench")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go test ./bench: %w\n%s", err, out)
	}
	return string(out), nil
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
	out, err := benchmarks(ctx, "Attach|Detach", 200)
	if err != nil {
		return err
	}
	medians := readBenchmarks(out)
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
