//go:build !race

package userspace_test

const raceDetector = false
