package daemon

import (
	"testing"
	"time"

	"linkspan/diagnose"
	"linkspan/wireguard"
)

func TestTunnelOf(t *testing.T) {
	at := time.Now()
	r := wireguard.Report{Device: "ls-w", Hosts: []wireguard.HostReport{
		{ID: "a", Key: true, Peer: true, Up: true, Handshake: at, Endpoint: "10.0.0.2:51871"}, {ID: "b", Endpoint: ""}}}
	got := tunnelOf(r, "a")
	if got.Device != "ls-w" || !got.Key || !got.Known || !got.Up || !got.Handshake.Equal(at) || got.Endpoint.String() != "10.0.0.2:51871" {
		t.Errorf("%+v", got)
	}
	if got := tunnelOf(r, "b"); got.Key || got.Endpoint.IsValid() {
		t.Errorf("%+v", got)
	}
	if got := tunnelOf(wireguard.Report{Err: "no"}, "c"); got != (diagnose.Tunnel{Err: "no"}) {
		t.Errorf("%+v", got)
	}
}
