package etcd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"linkspan/cnm"
)

// guarded is an etcd with users: linkspan may do all below /x/, root everything.
func guarded(t *testing.T) (endpoint string, root *clientv3.Client) {
	t.Helper()
	conf := config(t, 1)[0]
	conf.AuthTokenTTL = 2 // seconds: the least
	conf.BcryptCost = 4   // of a test's passwords
	ready(t, start(t, conf))
	admin := raw(t, clientURL(conf), nil)
	ctx := t.Context()
	for _, do := range []func() error{
		func() error { _, err := admin.UserAdd(ctx, "root", "r"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.RoleAdd(ctx, "mesh"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(ctx, "mesh", "/x/", clientv3.GetPrefixRangeEnd("/x/"), clientv3.PermissionType(clientv3.PermReadWrite))
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
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{clientURL(conf)}, Username: "root", Password: "r", DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return clientURL(conf), root
}

func secret(t *testing.T, word string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(word), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestLogin: all that a store does, as a user, beyond the life of a token; and a password
// that is changed.
func TestLogin(t *testing.T) {
	t.Parallel()
	at, root := guarded(t)
	file := secret(t, "secret\n")
	s := open(t, Options{Endpoints: []string{at}, Login: &Login{User: "linkspan", PasswordFile: file}, Prefix: "/x/"})
	ch, err := s.Watch(t.Context(), "", 0) // before there is a token
	if err != nil {
		t.Fatal(err)
	}
	lost, err := s.Hold(t.Context(), put("alive", "x"), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		commit(t, s, put("a", "1"))
		if es, _, err := s.List(t.Context(), ""); err != nil || len(es) != 2 {
			t.Fatalf("%+v %v", es, err)
		}
		time.Sleep(2 * time.Second) // the token's end, and the lease's
	}
	for n := 0; n < 4; n++ {
		select {
		case e, ok := <-ch:
			if !ok {
				t.Fatal("the watch ended")
			}
			_ = e
		case <-time.After(time.Minute):
			t.Fatalf("%d events", n)
		}
	}
	select {
	case <-lost:
		t.Fatal("what is held was lost")
	default:
	}

	if _, err := root.UserChangePassword(t.Context(), "linkspan", "changed"); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error { // etcd gives up its tokens then
		_, err := s.Commit(t.Context(), put("a", "2"))
		if err == nil {
			return errors.New("the old password is good")
		}
		if !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "etcd at "+at+" refuses user linkspan with the password in "+file+": correct --mesh-user or the file") {
			t.Fatal(err)
		}
		return nil
	})
	if err := os.WriteFile(file, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	commit(t, s, put("a", "3"))
	// What it held is lost with the old password, or not; it can be held again.
	if _, err := s.Hold(t.Context(), put("alive", "y"), 3*time.Second); err != nil {
		t.Error(err)
	}
}

// TestLoginRefused: what is wrong is said, with the server, the user and what to do.
func TestLoginRefused(t *testing.T) {
	t.Parallel()
	at, _ := guarded(t)
	good, bad := secret(t, "secret"), secret(t, "wrong")
	for _, c := range []struct {
		login  *Login
		prefix string
		class  error
		want   []string
	}{
		{&Login{User: "linkspan", PasswordFile: good}, "/x/", nil, nil},
		{nil, "/x/", cnm.ErrForbidden, []string{"etcd at " + at + " wants a user", "--mesh-user", "--mesh-password-file"}},
		{&Login{User: "linkspan", PasswordFile: bad}, "/x/", cnm.ErrForbidden, []string{"etcd at " + at + " refuses user linkspan with the password in " + bad, "etcdctl user passwd linkspan"}},
		{&Login{User: "nobody", PasswordFile: good}, "/x/", cnm.ErrForbidden, []string{"refuses user nobody"}},
		{&Login{User: "linkspan", PasswordFile: good}, "/y/", cnm.ErrForbidden, []string{"does not allow it to user linkspan", `all keys below "/y/"`, "etcdctl role grant-permission ROLE readwrite --prefix=true /y/"}},
		{&Login{User: "linkspan", PasswordFile: "/none"}, "/x/", cnm.ErrUnavailable, []string{"the password of its user linkspan cannot be read: open /none: no such file"}},
		{&Login{User: "linkspan", PasswordFile: secret(t, "\n")}, "/x/", cnm.ErrUnavailable, []string{"is to be in ", "and that is empty"}},
	} {
		s := open(t, Options{Endpoints: []string{at}, Login: c.login, Prefix: c.prefix})
		for what, do := range map[string]func() error{
			"Get":    func() error { return get(s, "a") },
			"Commit": func() error { _, err := s.Commit(t.Context(), put("a", "1")); return err },
		} {
			err := do()
			if !errors.Is(err, c.class) || c.class == nil && err != nil {
				t.Errorf("%s with %+v below %s: %v", what, c.login, c.prefix, err)
				continue
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%s: %v\nwant %s", what, err, w)
				}
			}
			if err != nil && strings.Contains(err.Error(), "secret") && !strings.Contains(err.Error(), "/password") {
				t.Errorf("the password is told: %v", err)
			}
		}
	}
	// An etcd without users takes one all the same.
	_, conf := one(t)
	s := open(t, Options{Endpoints: []string{clientURL(conf)}, Login: &Login{User: "linkspan", PasswordFile: good}})
	if err := get(s, "a"); err != nil {
		t.Error(err)
	}
	if _, err := s.Watch(t.Context(), "", 0); err != nil {
		t.Error(err)
	}
	// Opening waits for nobody, with a user either.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{Endpoints: []string{at}}); err == nil {
		t.Error("opened with a context that is over")
	}
	away := open(t, Options{Endpoints: []string{"127.0.0.1:1"}, Login: &Login{User: "linkspan", PasswordFile: good}, CallTimeout: 400 * time.Millisecond})
	if err := get(away, "a"); !errors.Is(err, cnm.ErrUnavailable) {
		t.Error(err)
	}
}
