package why

import (
	"strings"
	"testing"
)

// TestHealthy: who reaches B is never said not to.
func TestHealthy(t *testing.T) {
	for _, c := range [][2]string{
		{"web", "db"}, {"web", "db:5432"}, {"web", "172.20.0.3:5432/tcp"}, {"web", "222222222222:5432"}, {"host", "db:5432"}, {"host", "web"},
		{"web", "outside"}, {"web", "203.0.113.9:443"}, {"web", "example.com:443"}, {"outside", "pub:80"}, {"outside", "pub"}, {"outside", "host:8080"},
		{"outside:198.51.100.7", "192.0.2.10:8080"}, {"web", "host:8080"}, {"host", "host:8080"}, {"host", "127.0.0.1:8081"}, {"web", "host"},
		{"host", "outside"}, {"web", "web"}, {"web", "127.0.0.1"}, {"pub", "outside:198.51.100.7:80"}, {"web", "host.docker.internal"},
	} {
		t.Run(c[0]+" "+c[1], func(t *testing.T) {
			a := newWorld().ask(t, c[0], c[1])
			if a.Verdict != Reaches || a.Code != OK || a.ExitCode() != 0 || a.Cure != "" {
				var b strings.Builder
				a.WriteText(&b)
				t.Errorf("%s", b.String())
			}
		})
	}
}
