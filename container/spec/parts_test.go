package spec

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"linkspan/cnm"
)

func TestCaps(t *testing.T) {
	all := []string{"CAP_CHOWN", "CAP_MKNOD", "CAP_SYS_ADMIN"}
	for _, c := range []struct {
		name      string
		add, drop []string
		priv      bool
		want      []string
		err       string
	}{
		{name: "default", want: DefaultCaps()},
		{name: "add all", add: []string{"ALL"}, want: all},
		{name: "add all but one", add: []string{"all"}, drop: []string{"mknod"}, want: []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}},
		{name: "drop all", drop: []string{"ALL"}, want: []string{}},
		{name: "only one", drop: []string{"ALL"}, add: []string{"NET_BIND_SERVICE", "cap_net_bind_service"}, want: []string{"CAP_NET_BIND_SERVICE"}},
		{name: "privileged wins", priv: true, drop: []string{"ALL"}, want: all},
		{name: "unknown", add: []string{"FLY"}, err: `invalid capability: "FLY"`},
		{name: "unknown drop", drop: []string{"CAP_FLY"}, err: `invalid capability: "CAP_FLY"`},
		{name: "added twice", add: []string{"CHOWN"}, want: DefaultCaps()},
	} {
		got, err := Caps(all, c.add, c.drop, c.priv)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || !errors.Is(err, cnm.ErrInvalid) {
				t.Errorf("%s: error %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestParseSecurity(t *testing.T) {
	daemon := Security{Seccomp: `{"d":1}`, NoNewPrivileges: true}
	for _, c := range []struct {
		opts  []string
		from  Security
		want  Security
		class error
	}{
		{want: Security{}},
		{from: daemon, want: daemon},
		{opts: []string{"no-new-privileges"}, want: Security{NoNewPrivileges: true}},
		{opts: []string{"no-new-privileges:true"}, want: Security{NoNewPrivileges: true}},
		{opts: []string{"no-new-privileges=false"}, from: daemon, want: Security{Seccomp: daemon.Seccomp}},
		{opts: []string{"seccomp=unconfined"}, want: Security{Seccomp: Unconfined}},
		{opts: []string{"seccomp:unconfined"}, want: Security{Seccomp: Unconfined}},
		{opts: []string{"seccomp=builtin"}, from: daemon, want: Security{NoNewPrivileges: true}},
		{opts: []string{`seccomp={"a":"b=c"}`}, want: Security{Seccomp: `{"a":"b=c"}`}},
		{opts: []string{"apparmor=unconfined", "label=disable"}, want: Security{}},
		{opts: []string{"apparmor=mine"}, class: cnm.ErrUnsupported},
		{opts: []string{"label=type:x"}, class: cnm.ErrUnsupported},
		{opts: []string{"seccomp=/no/such"}, class: cnm.ErrInvalid},
		{opts: []string{"no-new-privileges=maybe"}, class: cnm.ErrInvalid},
		{opts: []string{"what"}, class: cnm.ErrInvalid},
		{opts: []string{"what=ever"}, class: cnm.ErrInvalid},
	} {
		got, err := ParseSecurity(c.opts, c.from)
		if c.class != nil {
			if !errors.Is(err, c.class) {
				t.Errorf("%q: error %v, want %v", c.opts, err, c.class)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: %+v, %v; want %+v", c.opts, got, err, c.want)
		}
	}
}

func TestSeccompFile(t *testing.T) {
	f := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(f, []byte(`{"a":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"": "", "builtin": "", "unconfined": Unconfined, f: `{"a":1}`} {
		if got, err := SeccompFile(path); err != nil || got != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if _, err := SeccompFile(f + ".no"); !errors.Is(err, cnm.ErrInvalid) {
		t.Error(err)
	}
}

func TestMergeEnv(t *testing.T) {
	for _, c := range []struct{ env, over, want []string }{
		{nil, nil, nil},
		{[]string{"A=1", "B=2"}, []string{"B=3", "C=4"}, []string{"A=1", "B=3", "C=4"}},
		{[]string{"A=1", "B=2"}, []string{"A"}, []string{"B=2"}},
		{[]string{"A=1"}, []string{"A", "A=2"}, []string{"A=2"}},
		{[]string{"A=1"}, []string{"X"}, []string{"A=1"}},
		{[]string{"A="}, []string{"A=x=y"}, []string{"A=x=y"}},
	} {
		if d := cmp.Diff(c.want, MergeEnv(append([]string(nil), c.env...), c.over)); d != "" {
			t.Errorf("%q + %q: %s", c.env, c.over, d)
		}
	}
}

func TestSplitSysctls(t *testing.T) {
	net, rest, err := SplitSysctls(map[string]string{
		"net.ipv4.ip_forward": "1", "net/core/somaxconn": "2", "kernel.msgmax": "3", "fs.mqueue.msg_max": "4", "kernel.domainname": "d",
	}, false, false, false)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"net.ipv4.ip_forward": "1", "net.core.somaxconn": "2"}, net); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"kernel.msgmax": "3", "fs.mqueue.msg_max": "4", "kernel.domainname": "d"}, rest); d != "" {
		t.Error(d)
	}
	for _, c := range []struct {
		key           string
		net, ipc, uts bool
	}{
		{key: "vm.swappiness"}, {key: "kernel.hostname"}, {key: "kernel.pid_max"},
		{key: "net.ipv4.ip_forward", net: true}, {key: "kernel.sem", ipc: true}, {key: "kernel.domainname", uts: true},
	} {
		if _, _, err := SplitSysctls(map[string]string{c.key: "1"}, c.net, c.ipc, c.uts); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.key) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestParseDevicePermissions(t *testing.T) {
	for in, want := range map[string]string{"": "rwm", "r": "r", "rw": "rw", "mrw": "mrw"} {
		if got, ok := ParseDevicePermissions(in); !ok || got != want {
			t.Errorf("%q: %q %v", in, got, ok)
		}
	}
	for _, in := range []string{"x", "rr", "rwmr", "r w"} {
		if _, ok := ParseDevicePermissions(in); ok {
			t.Errorf("%q was taken", in)
		}
	}
}
