package daemontest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"linkspan/internal/ctdtest"
	"linkspan/internal/lab"
)

// What the daemon and its containerd have, asked by HTTP and by containerd's own library:
// not with the engine's code; and not with docker and ctr, which take longer to start
// than all that is looked at takes.

// get asks the daemon's API.
func (d *Daemon) get(path string, within time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.Socket)
	}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return b, err
}

// listed are the ids of one kind; a daemon that is down is asked nothing.
func (d *Daemon) listed(path string) func() ([]string, error) {
	type thing struct{ ID, Name string } // "Id" too
	return func() (lines []string, err error) {
		if d.PID() == 0 {
			return nil, nil
		}
		b, err := d.get(path, lab.Patience)
		if err != nil {
			return nil, err
		}
		var all []thing
		if path == "/volumes" { // they have no ids, and lie in an object
			var in struct{ Volumes []thing }
			err = json.Unmarshal(b, &in)
			all = in.Volumes
		} else {
			err = json.Unmarshal(b, &all)
		}
		for _, t := range all {
			if t.ID == "" {
				t.ID = t.Name
			}
			lines = append(lines, t.ID)
		}
		return lines, err
	}
}

// containerdSocket finds the private containerd's, "" if there is none.
func (d *Daemon) containerdSocket() string {
	if d.ctd != "" {
		return d.ctd
	}
	for _, p := range d.processes() {
		if filepath.Base(strings.Fields(p.cmd)[0]) != "containerd" {
			continue
		}
		f := strings.Fields(p.cmd)
		for i, a := range f[:len(f)-1] {
			if a == "--address" || a == "-a" {
				return f[i+1]
			}
			if a == "--config" || a == "-c" {
				b, _ := os.ReadFile(f[i+1])
				if m := regexp.MustCompile(`(?m)^\s*address\s*=\s*['"]([^'"]*)['"]`).FindSubmatch(b); m != nil {
					return string(m[1])
				}
			}
		}
	}
	return ""
}

// containerd's objects.
func (d *Daemon) containerd() (ws []lab.Watch) {
	for _, kind := range []string{"containers", "tasks", "snapshots", "leases"} {
		ws = append(ws, lab.Watch{Name: "containerd " + kind, List: func() ([]string, error) {
			sock := d.containerdSocket()
			if sock == "" {
				return nil, nil
			}
			lines, err := ctdtest.Objects(sock, kind)
			if err != nil {
				return nil, fmt.Errorf("containerd's %s: %w", kind, err)
			}
			return lines, nil
		}})
	}
	return ws
}
