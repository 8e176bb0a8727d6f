//go:build race

package keeper

// raceDetector: this binary watches memory, and uses four times as much.
const raceDetector = true
