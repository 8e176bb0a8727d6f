package none_test

import (
	"testing"

	"linkspan/cnm"
	"linkspan/driver"
	"linkspan/driver/drivertest"
	"linkspan/driver/none"
)

func TestPlans(t *testing.T) {
	drivertest.Run(t, none.Driver{}, drivertest.Case{
		Name: "none", Env: driver.Env{Table: "linkspan_00000a"},
		Network: cnm.Network{ID: "0000", Name: "none", Driver: "null"},
		Sandbox: &cnm.Sandbox{ID: "5a5a", OwnerName: "lonely", Path: "/run/linkspan/netns/5a5a", Endpoints: []cnm.Endpoint{{ID: "e1e1"}}},
	})
	want := driver.Traits{Single: true}
	if got := (none.Driver{}).Traits(); got != want {
		t.Errorf("traits %+v", got)
	}
}
