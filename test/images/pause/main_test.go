package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestReap(t *testing.T) {
	for range 3 {
		if _, err := syscall.ForkExec("/bin/true", []string{"true"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		reap()
		// ECHILD: no child is left, ended or not.
		if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err == syscall.ECHILD {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a child is not reaped")
		}
	}
}

// `docker stop` sends SIGTERM and waits: pause goes at once, with 0.
func TestEndsOnTerm(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "pause")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		cmd := exec.Command(binary)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case err := <-done:
			t.Fatalf("pause ends by itself: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
		cmd.Process.Signal(sig)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("after %v: %v", sig, err)
			}
		case <-time.After(time.Minute):
			cmd.Process.Kill()
			t.Errorf("pause does not heed %v", sig)
		}
	}
}
