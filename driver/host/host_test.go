package host_test

import (
	"testing"

	"linkspan/cnm"
	"linkspan/driver"
	"linkspan/driver/drivertest"
	"linkspan/driver/host"
)

func TestPlans(t *testing.T) {
	drivertest.Run(t, host.Driver{}, drivertest.Case{
		Name: "host", Env: driver.Env{Table: "linkspan_00000a"},
		Network: cnm.Network{ID: "4057", Name: "host", Driver: "host"},
		Sandbox: &cnm.Sandbox{ID: "5a5a", OwnerName: "nginx", Path: "/run/linkspan/hostns/default", Host: true, Endpoints: []cnm.Endpoint{{ID: "e1e1"}},
			Ports: []cnm.PublishedPort{{Proto: "tcp", HostPort: 80, HostPortEnd: 80, Port: 80}}},
	})
	want := driver.Traits{HostSandbox: true, Single: true}
	if got := (host.Driver{}).Traits(); got != want {
		t.Errorf("traits %+v", got)
	}
}
