package ops

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestMetrics: what containers do is counted, from the first scrape on; what is gone is
// gone; a reload moves the address.
func TestMetrics(t *testing.T) {
	w := shared(t)
	file := filepath.Join(w.Dir, "daemon.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sock := w.metricsSocket()
	write(`{"metrics-addr":"unix://` + sock + `"}`)
	w.Restart("--config-file=" + file)
	t.Cleanup(func() { w.Restart() })
	w.shop()
	scrape := func() string {
		t.Helper()
		code, text, err := get(sock, "/metrics")
		if err != nil || code != 200 {
			t.Fatalf("%d %v\n%s", code, err, text)
		}
		return text
	}
	first := ""
	for name, want := range map[string]string{
		`linkspan_containers{state="running"}`: "2", "linkspan_keeper_up": "1", "linkspan_dns_resolvers": "2",
		`linkspan_source_up{source="endpoints"}`: "1", `linkspan_source_up{source="resolver"}`: "1", `linkspan_source_up{source="drops"}`: "1",
		`linkspan_source_up{source="ports"}`: "1", `linkspan_source_up{source="reconciler"}`: "1", `linkspan_source_up{source="conntrack"}`: "1",
		`linkspan_port_connections_total{address="any",container="web",port="8080",protocol="tcp"}`: "0",
	} {
		if first == "" || metric(first, name) != want {
			w.Until(lab.Patience, name+" is "+want, func() bool { first = scrape(); return metric(first, name) == want })
		}
	}
	const drops = `linkspan_drops_total{rule="unpublished"}`
	dropped := metric(first, drops)
	// Traffic: a connection by the published port, a name, and one that is not let in.
	w.Until(20*time.Second, "connections are counted", func() bool {
		daemontest.Reach(w.Machine, daemontest.HostAddr+":8080")
		return metric(scrape(), `linkspan_port_connections_total{address="any",container="web",port="8080",protocol="tcp"}`) != "0"
	})
	w.Docker("exec", "db", "nslookup", "web")
	addr := w.Docker("inspect", "-f", "{{.NetworkSettings.Networks.shop.IPAddress}}", "web")
	w.Machine.Run("ip", "route", "add", addr, "via", daemontest.HostAddr)
	t.Cleanup(func() { w.Machine.Run("ip", "route", "del", addr) })
	w.Until(10*time.Second, "all of it is told", func() bool {
		_, _ = w.Machine.Try("ping", "-c1", "-W1", addr)
		now := scrape()
		return metric(now, `linkspan_endpoint_receive_bytes_total{container="web",interface="eth0",network="shop"}`) != metric(first, `linkspan_endpoint_receive_bytes_total{container="web",interface="eth0",network="shop"}`) &&
			metric(now, "linkspan_dns_queries_total") != metric(first, "linkspan_dns_queries_total") && metric(now, drops) != dropped
	})
	if text := scrape(); !strings.Contains(text, `linkspan_api_request_duration_seconds_count{method="POST",route="/containers/{id}/start",status="2xx"} 2`) {
		t.Error("the starts of containers are not among the API's requests")
	}
	w.Docker("rm", "-f", "db")
	w.Until(lab.Patience, "a container that is gone is told no more", func() bool { return !strings.Contains(scrape(), `container="db"`) })
	// The API's socket has the same.
	if code, text, err := get(w.Socket, "/linkspan/metrics"); err != nil || code != 200 || metric(text, "linkspan_keeper_up") != "1" {
		t.Errorf("on the API's socket: %d %v", code, err)
	}

	write(`{"metrics-addr":"unix://` + sock + `2"}`)
	w.Signal(syscall.SIGHUP)
	w.Until(10*time.Second, "the metrics have moved", func() bool {
		_, _, gone := get(sock, "/metrics")
		_, _, err := get(sock+"2", "/metrics")
		return gone != nil && err == nil
	})
	write(`{"metrics-addr":"nowhere"}`)
	w.Signal(syscall.SIGHUP)
	w.Until(10*time.Second, "the reload is refused", func() bool { return strings.Contains(w.Log(), "no address with a port") })
	if _, _, err := get(sock+"2", "/metrics"); err != nil {
		t.Errorf("after a refused reload: %v", err)
	}
}
