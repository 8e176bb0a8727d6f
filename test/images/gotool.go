package images

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// findGo finds the go command also under sudo, whose PATH rarely has it.
func findGo() (string, error) {
	if name, err := exec.LookPath("go"); err == nil {
		return name, nil
	}
	// `go run` and `go test` set GOROOT for what they start.
	for _, root := range []string{os.Getenv("GOROOT"), "/usr/local/go", "/usr/lib/go"} {
		name := filepath.Join(root, "bin", "go")
		if root != "" && exists(name) {
			return name, nil
		}
	}
	return "", fmt.Errorf("building the images' own programs needs the go command (%s) on PATH", runtime.Version())
}

// havePrograms says in one go what is missing and how to get it.
func havePrograms(names ...string) error {
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("building the test images needs %s on PATH: sudo script/install-deps.sh test", strings.Join(missing, ", "))
	}
	return nil
}
