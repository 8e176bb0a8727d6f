package host

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// TestExternalUser: an etcd that has users takes hosts that name one; who is refused is
// told by whom, and what to do.
func TestExternalUser(t *testing.T) {
	if !isolated(t) {
		return
	}
	x, _ := someonesEtcd(t, false)
	admin, err := clientv3.New(clientv3.Config{Endpoints: x.Endpoints, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	ctx := t.Context()
	for _, do := range []func() error{
		func() error { _, err := admin.UserAdd(ctx, "root", "r"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.RoleAdd(ctx, "mesh"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(ctx, "mesh", Prefix, clientv3.GetPrefixRangeEnd(Prefix), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := admin.UserAdd(ctx, "linkspan", "secret"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "linkspan", "mesh"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "password")
	write := func(word string) {
		if err := os.WriteFile(file, []byte(word+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("wrong")
	with := func(n int, user string) *machine {
		return newMachine(t, n, func(c *Config) {
			own := *x
			own.Listen, own.User = netip.MustParseAddr("10.213.0."+string(rune('0'+n))), user
			if user != "" {
				own.PasswordFile = file
			}
			c.External = &own
		})
	}
	says := func(m *machine, what string) {
		t.Helper()
		eventually(t, time.Minute, "it says: "+what, func() bool { return strings.Contains(strings.Join(m.status().Words, "; "), what) })
	}
	a := with(1, "linkspan")
	says(a, "etcd at 10.213.0.6:4379 refuses user linkspan with the password in "+file+": correct --mesh-user or the file")
	none := with(3, "")
	says(none, "etcd at 10.213.0.6:4379 wants a user: name it with --mesh-user, and the file of its password with --mesh-password-file")
	none.close()

	write("secret") // no restart is needed
	b := with(2, "linkspan")
	for _, m := range []*machine{a, b} {
		eventually(t, time.Minute, "both are alive", func() bool {
			return m.host.Mesh() != nil && len(m.host.Mesh().Peers()) == 1 && m.host.Mesh().Peers()[0].Alive
		})
	}
	eventually(t, time.Minute, "all is well", func() bool { s := a.status(); return s.Etcd.Reachable && len(s.Words) == 0 })
	for _, m := range []*machine{a, b} {
		if strings.Contains(m.log.String(), "secret") {
			t.Errorf("the password is in the log:\n%s", m.log)
		}
	}
	kept, err := os.ReadFile(a.host.dir.config())
	if err != nil || strings.Contains(string(kept), "secret") || !strings.Contains(string(kept), `"linkspan"`) {
		t.Errorf("%s %v", kept, err)
	}
}
