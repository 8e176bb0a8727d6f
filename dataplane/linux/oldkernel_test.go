package linux_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
)

// TestOldNFT: where nft does not know what networks that span hosts need, the rest of the
// page is there, and their elements say why they cannot be.
func TestOldNFT(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := filepath.Join(dir, "nft")
	script := "#!/bin/sh\ncat > " + dir + "/in\nif grep -q '@th,96' " + dir + "/in; then echo 'syntax error, unexpected at'; exit 1; fi\nexec nft -f " + dir + "/in\n"
	if err := os.WriteFile(old, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, func(c *linux.Config) { c.NFT = old })
	want := bridgeNet()
	h.apply(diff.Create(want))
	for _, op := range diff.Compute(dataplane.NewState(want...), h.observe()).Ops {
		if _, sys := op.Object.(dataplane.Sysctl); !sys {
			t.Errorf("%s %s", op.Verb, op.Object.Key())
		}
	}
	err := h.k.Apply(context.Background(), diff.Create([]dataplane.Object{dataplane.MeshElement(network, table, prefix("10.88.0.0/16"))}))
	if !errors.Is(err, cnm.ErrUnsupported) || !strings.Contains(err.Error(), "Linux 5.6") {
		t.Errorf("%v", err)
	}
	h.apply(diff.Create([]dataplane.Object{dataplane.PeerElement(network, table, addr("10.99.0.2"))}))
}
