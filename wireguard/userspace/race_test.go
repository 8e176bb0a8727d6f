//go:build race

package userspace_test

// raceDetector: this binary watches memory, and uses four times as much.
const raceDetector = true
