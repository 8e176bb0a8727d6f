package daemon

import (
	"fmt"
	"net/netip"
	"testing"

	apinetwork "github.com/moby/moby/api/types/network"
)

func TestPublished(t *testing.T) {
	got := published(apinetwork.PortMap{
		apinetwork.MustParsePort("80/tcp"): {{HostPort: "8080"}, {HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "8081"}},
		apinetwork.MustParsePort("53/udp"): {{HostPort: "9000-9010"}},
		apinetwork.MustParsePort("90/tcp"): {{}},
	})
	want := "[{tcp invalid IP 0 0 90} {tcp invalid IP 8080 8080 80} {tcp 127.0.0.1 8081 8081 80} {udp invalid IP 9000 9010 53}]"
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}
