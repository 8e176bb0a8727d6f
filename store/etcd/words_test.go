package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"linkspan/cnm"
	"linkspan/store"
)

func TestParseEndpoints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in     []string
		want   string
		scheme string
		err    string
	}{
		{[]string{"10.0.0.5:2379"}, "10.0.0.5:2379", "", ""},
		{[]string{"10.0.0.5"}, "10.0.0.5:2379", "", ""},
		{[]string{" 10.0.0.5 ", "10.0.0.5:2379"}, "10.0.0.5:2379", "", ""},
		{[]string{"2001:db8::5"}, "[2001:db8::5]:2379", "", ""},
		{[]string{"[2001:db8::5]"}, "[2001:db8::5]:2379", "", ""},
		{[]string{"[2001:db8::5]:4001"}, "[2001:db8::5]:4001", "", ""},
		{[]string{"[fe80::1%eth0]:4001"}, "[fe80::1%eth0]:4001", "", ""},
		{[]string{"https://a.example:2379/", "HTTPS://b.example"}, "a.example:2379 b.example:2379", "https", ""},
		{[]string{"http://a", "b"}, "a:2379 b:2379", "http", ""},
		{[]string{"http://a", "https://b"}, "", "", "say one for all"},
		{nil, "", "", "name at least one"},
		{[]string{""}, "", "", "no address"},
		{[]string{"etcd://a"}, "", "", "the scheme is http or https"},
		{[]string{"a:0"}, "", "", "no port"},
		{[]string{"a:99999"}, "", "", "no port"},
		{[]string{"a:http"}, "", "", "no port"},
		{[]string{"a/b"}, "", "", "no address"},
		{[]string{"user@a:2379"}, "", "", "no address"},
		{[]string{"a:b:c"}, "", "", "no address"},
	} {
		got, scheme, err := parseEndpoints(c.in)
		if c.err != "" {
			if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != c.want || scheme != c.scheme {
			t.Errorf("%q: %q %q %v, want %q %q", c.in, got, scheme, err, c.want, c.scheme)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"10.0.0.5:2379", "[::1]", "https://a/", "a:b", "[", "]:1", "http://[::1%25lo]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		ep, _, err := parseEndpoint(in)
		if err != nil {
			return
		}
		if again, _, err := parseEndpoint(ep); err != nil || again != ep {
			t.Errorf("%q is %q, and that %q, %v", in, ep, again, err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"nothing":         {},
		"http, with keys": {Endpoints: []string{"http://a"}, TLS: &tls.Config{MinVersion: tls.VersionTLS12}},
	} {
		if s, err := Open(t.Context(), o); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{Endpoints: []string{"a"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		urls, now string
		secure    bool
		want      string
	}{
		{"http://10.0.0.1:2379 http://10.0.0.2:2379", "10.0.0.9:2379", false, "10.0.0.1:2379 10.0.0.2:2379"},
		{"http://10.0.0.1:2379 https://10.0.0.1:2379", "10.0.0.9:2379", true, "10.0.0.1:2379"},
		{"http://localhost:2379", "10.0.0.9:2379", false, ""},
		{"http://127.0.0.1:2379 http://0.0.0.0:2379 http://[::]:2379", "10.0.0.9:2379", false, ""},
		{"http://127.0.0.1:2379", "127.0.0.1:4001", false, "127.0.0.1:2379"},
		{"http://b:1 http://a:1 http://b:1", "c:1", false, "a:1 b:1"},
		{"unix://x", "c:1", false, ""},
	} {
		got := members(strings.Fields(c.urls), strings.Fields(c.now), c.secure)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.urls, got, c.want)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	op := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, c := range []struct {
		err   error
		want  string
		trust bool
	}{
		{op(syscall.ECONNREFUSED), "connection refused", false},
		{op(syscall.EHOSTUNREACH), "no route to host", false},
		{op(syscall.ENETUNREACH), "network is unreachable", false},
		{op(syscall.ECONNRESET), "it closed the connection", false},
		{io.EOF, "it closed the connection", false},
		{op(syscall.ETIMEDOUT), "no answer", false},
		{context.DeadlineExceeded, "no answer", false},
		{tls.RecordHeaderError{Msg: "x"}, "it does not speak TLS there", false},
		{&net.DNSError{Err: "no such host", Name: "a.example"}, "lookup a.example: no such host", false},
		{x509.UnknownAuthorityError{}, "its certificate is of another mesh: an authority signed it, whom this host does not trust", true},
		{x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, "its certificate is not valid: ", true},
		{fmt.Errorf("x: %w", &net.OpError{Op: "remote error", Err: errors.New("tls: unknown certificate authority")}), "it refuses this host's certificate (unknown certificate authority): it is of another mesh, or ran out by its clock", true},
		{errors.New("transport: strange"), "strange", false},
	} {
		got, trust := words(c.err)
		if !strings.HasPrefix(got, c.want) || trust != c.trust {
			t.Errorf("%v: %q %v, want %q %v", c.err, got, trust, c.want, c.trust)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Endpoints: []string{"10.0.0.5", "10.0.0.6"}, Prefix: "/linkspan/v1/"})
	_ = s.client.Close() // what its own connections meet would be told too
	s.notes.keep(nil)
	for _, c := range []struct {
		err  error
		is   error
		want string
	}{
		{rpctypes.ErrCompacted, store.ErrCompacted, ""},
		{rpctypes.ErrFutureRev, store.ErrCompacted, ""},
		{store.ErrCompare, store.ErrCompare, ""},
		{rpctypes.ErrNoSpace, store.ErrFull, "etcd at 10.0.0.5:2379, 10.0.0.6:2379 has used up its quota"},
		{rpctypes.ErrNoSpace, cnm.ErrExhausted, ""},
		{rpctypes.ErrTooManyOps, cnm.ErrInvalid, "too many operations in txn request"},
		{status.Error(codes.ResourceExhausted, "trying to send message larger than max (3 vs. 2)"), cnm.ErrInvalid, "larger than max"},
		{rpctypes.ErrPermissionDenied, cnm.ErrForbidden, `must grant this host's certificate all keys below "/linkspan/v1/"`},
		{rpctypes.ErrCorrupt, cnm.ErrUnavailable, "restore it from a backup"},
		{rpctypes.ErrNoLeader, cnm.ErrUnavailable, "it has no leader: the majority of its members is away"},
		{context.DeadlineExceeded, cnm.ErrUnavailable, "no answer"},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp: boom"`), cnm.ErrUnavailable, ": Error while dialing: dial tcp: boom;"},
		{errors.New("boom"), cnm.ErrUnavailable, "cannot read a: etcd at 10.0.0.5:2379, 10.0.0.6:2379: boom"},
	} {
		got := s.describe(c.err, "read a")
		if !errors.Is(got, c.is) || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%v:\n %v\n want %q", c.err, got, c.want)
		}
		for _, bad := range []string{"rpc error", "etcdserver:", "mvcc:", "desc ="} {
			if strings.Contains(got.Error(), bad) {
				t.Errorf("%v: %v", c.err, got)
			}
		}
	}
	// One member is away, another speaks.
	s.notes.set("10.0.0.5:2379", syscall.ECONNREFUSED)
	var away *AwayError
	if !errors.As(s.describe(rpctypes.ErrNoLeader, "read a"), &away) || !slices.Equal(away.Members, []string{"connection refused", "it has no leader: the majority of its members is away"}) {
		t.Errorf("members: %+v", away)
	}
}

// TestRefused: only what says that nothing is written nor will be counts as refused.
func TestRefused(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		rpctypes.ErrNoSpace: true, rpctypes.ErrNoLeader: true, rpctypes.ErrTooManyRequests: true, rpctypes.ErrDuplicateKey: true,
		rpctypes.ErrTimeout: false, rpctypes.ErrTimeoutDueToLeaderFail: false, rpctypes.ErrTimeoutDueToConnectionLost: false,
		rpctypes.ErrStopped: false, rpctypes.ErrLeaderChanged: false, rpctypes.ErrUnhealthy: false,
		context.DeadlineExceeded: false, context.Canceled: false,
		status.Error(codes.Unavailable, "error reading from server: EOF"): false,
		status.Error(codes.Internal, "stream terminated"):                 false,
		fmt.Errorf("anything else"):                                       false,
	} {
		if refused(err) != want {
			t.Errorf("%v: refused %v", err, !want)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var h health
	if since, was := h.good(); was || !since.IsZero() {
		t.Errorf("the first answer ends an absence: %v", since)
	}
	begun := time.Now().Add(-time.Second)
	if !h.bad(begun, io.EOF) {
		t.Error("the first failure is not told")
	}
	if h.bad(time.Now(), io.ErrUnexpectedEOF) {
		t.Error("the second failure is told again")
	}
	if got := h.get(); got.OK || !got.Since.Equal(begun) || got.Err != io.ErrUnexpectedEOF {
		t.Errorf("%+v", got)
	}
	if since, was := h.good(); !was || !since.Equal(begun) {
		t.Errorf("back after %v, %v", since, was)
	}
	if _, was := h.good(); was {
		t.Error("back twice")
	}
}
