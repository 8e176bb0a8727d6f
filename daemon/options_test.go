package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"linkspan/driver"
)

// TestValidate: what the start would refuse is refused by --validate too.
func TestValidate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(file, []byte(`{"log-opts": {"max-size": "lots"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none.json")
	if err := os.WriteFile(none, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
	}{
		{nil, 0},
		{[]string{"--log-opt=max-size=10m", "--log-opt=max-file=3"}, 0},
		{[]string{"--log-opt=no-such=1"}, 1},
		{[]string{"--log-opt=max-size=lots"}, 1},
		{[]string{"--log-driver=none", "--log-opt=no-such=1"}, 0}, // none takes none: they make no difference
		{[]string{"--init-path=/no/such"}, 1},
		{[]string{"--init-path=" + none}, 1},
		{[]string{"--default-network-opt=nosuch=a=b"}, 1},
		{[]string{"--config-file=" + file}, 1},
	} {
		args := append([]string{"--validate", "--config-file=" + none}, c.args...)
		if r, code, ok := parse(Options{Drivers: driver.Registry{}}, args); r != nil || ok || code != c.code {
			t.Errorf("%q: code %d, want %d", c.args, code, c.code)
		}
	}
}
