package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"linkspan/cnm"
	"linkspan/store"
)

// ErrCertificate is within an error that says that a member was reached and that it or
// this host refused the other's certificate: it is of another mesh, not for this address,
// or ran out.
var ErrCertificate = errors.New("store/etcd: certificate refused")

// errLearner is a member's that has no say yet; the next one does.
var errLearner = rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)

// AwayError says that the cluster cannot be asked. It comes within cnm.ErrUnavailable.
type AwayError struct {
	Endpoints []string
	Since     time.Time // of the first call without an answer
	Members   []string  // what is wrong with each endpoint, in their order
	trust     bool
	unclear   bool
	text      string
	cause     error
}

func (e *AwayError) Error() string { return e.text }
func (e *AwayError) Unwrap() error { return e.cause }

// Is makes errors.Is find ErrCertificate and store.ErrUnclear.
func (e *AwayError) Is(target error) bool {
	return target == ErrCertificate && e.trust || target == store.ErrUnclear && e.unclear
}

// isAway says that err is no answer of the cluster's: a read is tried again.
func isAway(err error) bool {
	var e rpctypes.EtcdError
	switch {
	case isContext(err):
		return true
	case errors.As(err, &e):
		return e.Code() == codes.Unavailable ||
			errors.Is(err, rpctypes.ErrTooManyRequests) || errors.Is(err, errLearner)
	}
	st, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
		return true
	}
	return false
}

func isAnswer(err error) bool {
	var e rpctypes.EtcdError
	return errors.As(err, &e) && e.Code() != codes.Unavailable
}

// describe makes a person's words of what etcd or gRPC said. what is what was to be done,
// as "read hosts/1".
func (s *Store) describe(err error, what string) error {
	at := strings.Join(s.Endpoints(), ", ")
	if text, ok := s.refusedUser(err, what, at); ok {
		return cnm.Errorf(cnm.ErrForbidden, "%s", text)
	}
	switch {
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrCompare):
		return err
	case s.base.Err() != nil && isAway(err):
		return store.ErrClosed
	case isCompacted(err):
		return store.ErrCompacted
	case errors.Is(err, rpctypes.ErrNoSpace):
		return cnm.Errorf(cnm.ErrExhausted, "cannot %s: %w: etcd at %s has used up its quota and takes no writes (alarm NOSPACE); nothing was changed: "+
			"compact and defragment it, disarm the alarm (etcdctl compact, defrag, alarm disarm), and give it a larger --quota-backend-bytes if it needs more", what, store.ErrFull, at)
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrDuplicateKey),
		status.Code(err) == codes.ResourceExhausted && !isAnswer(err): // gRPC's own limit of a message
		return cnm.Invalid("cannot %s: etcd at %s does not take it: %s", what, at, plain(err))
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrInvalidAuthToken), errors.Is(err, rpctypes.ErrAuthFailed):
		return cnm.Errorf(cnm.ErrForbidden, "cannot %s: etcd at %s does not allow it (%s): its administrator must grant this host's certificate all keys below %q", what, at, plain(err), s.o.Prefix)
	case errors.Is(err, rpctypes.ErrCorrupt):
		return cnm.Errorf(cnm.ErrUnavailable, "cannot %s: etcd at %s says that its members' data differ (alarm CORRUPT): restore it from a backup", what, at)
	case isAway(err):
		return s.away(err, what, false)
	}
	return cnm.Errorf(cnm.ErrUnavailable, "cannot %s: etcd at %s: %s", what, at, plain(err))
}

// away is the error of a cluster that does not answer.
func (s *Store) away(err error, what string, unclear bool) error {
	h := s.health.get()
	e := &AwayError{Endpoints: s.Endpoints(), Since: h.Since, unclear: unclear, cause: err}
	if h.OK || e.Since.IsZero() {
		e.Since = time.Now()
	}
	why, cure, trust := s.why(err)
	e.Members, e.trust = why, trust
	outcome := ""
	if unclear {
		outcome = "; whether it was written is not known: look before doing it again"
	}
	e.text = fmt.Sprintf("cannot %s: the hosts' common store (etcd at %s) does not answer since %s: %s%s; %s",
		what, strings.Join(e.Endpoints, ", "), clock(e.Since), gather(e.Endpoints, why), outcome, cure)
	return cnm.Errorf(cnm.ErrUnavailable, "%w", e)
}

// cause is away's reason alone, for the log.
func (s *Store) cause(err error) string {
	why, _, _ := s.why(err)
	return gather(s.Endpoints(), why)
}

// clock is a moment as people say it.
func clock(t time.Time) string {
	ago := time.Since(t).Round(time.Second)
	form := "15:04:05"
	if ago > 12*time.Hour {
		form = "2006-01-02 15:04:05"
	}
	return fmt.Sprintf("%s (%s)", t.Format(form), ago)
}

// gather says once what is wrong with all.
func gather(eps, why []string) string {
	same := true
	for _, w := range why {
		same = same && w == why[0]
	}
	if same && len(why) > 0 {
		return why[0]
	}
	var parts []string
	for i, w := range why {
		parts = append(parts, eps[i]+": "+w)
	}
	return strings.Join(parts, "; ")
}

// why is what is wrong with each endpoint, what to do, and whether it is a certificate.
func (s *Store) why(err error) (why []string, cure string, trust bool) {
	eps := s.Endpoints()
	cure = "see that etcd runs there, and that nothing between the hosts filters its port"
	noted := 0
	for _, ep := range eps {
		n := s.notes.get(ep)
		if n == nil {
			why = append(why, "no answer")
			continue
		}
		noted++
		text, t := words(n)
		trust = trust || t
		why = append(why, text)
	}
	var e rpctypes.EtcdError
	switch {
	case trust:
		cure = "use the certificates of the mesh that this etcd is of (linkspan mesh join), and compare the hosts' clocks"
	case errors.As(err, &e):
		// It was reached: what it says is more than what went wrong elsewhere.
		text := plain(err)
		if errors.Is(err, rpctypes.ErrNoLeader) || errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail) || errors.Is(err, rpctypes.ErrTimeout) {
			text = "it has no leader: the majority of its members is away"
			cure = "bring back enough of its members; until then what runs goes on, and nothing common can be changed"
		}
		for i, ep := range eps {
			if s.notes.get(ep) == nil {
				why[i] = text
			}
		}
	case noted == 0 && !isContext(err):
		for i := range why {
			why[i] = plain(err)
		}
	}
	return why, cure, trust
}

// words says what went wrong on the way to a member, and whether it is its certificate
// or ours.
func words(err error) (text string, trust bool) {
	var (
		unknown  x509.UnknownAuthorityError
		host     x509.HostnameError
		invalid  x509.CertificateInvalidError
		notTLS   tls.RecordHeaderError
		resolved *net.DNSError
	)
	switch {
	case errors.As(err, &unknown):
		by := "an authority"
		if unknown.Cert != nil && unknown.Cert.Issuer.String() != "" {
			by = fmt.Sprintf("%q", unknown.Cert.Issuer.String())
		}
		return fmt.Sprintf("its certificate is of another mesh: %s signed it, whom this host does not trust", by), true
	case errors.As(err, &host):
		return "its certificate is for other addresses: " + host.Error(), true
	case errors.As(err, &invalid):
		if c := invalid.Cert; invalid.Reason == x509.Expired && c != nil {
			return fmt.Sprintf("its certificate holds from %s to %s, and this host's clock says %s", day(c.NotBefore), day(c.NotAfter), day(time.Now())), true
		}
		return "its certificate is not valid: " + invalid.Error(), true
	case errors.As(err, &notTLS):
		return "it does not speak TLS there", false
	case alert(err) == "certificate required": // crypto/tls sends none rather than one of another authority
		return "it wants a certificate of its mesh, and this host has none of it", true
	case alert(err) != "":
		return fmt.Sprintf("it refuses this host's certificate (%s): it is of another mesh, or ran out by its clock", alert(err)), true
	case errors.Is(err, errNoTLS), errors.Is(err, errWantsTLS):
		return plain(err), false
	case errors.As(err, &resolved):
		return resolved.Error(), false
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", false
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to host", false
	case errors.Is(err, syscall.ENETUNREACH):
		return "network is unreachable", false
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE):
		return "it closed the connection", false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "no answer", false
	}
	return plain(err), false
}

// alert is what the other side of a TLS connection refused, or "". crypto/tls has no
// type for it that others can name.
func alert(err error) string {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return ""
	}
	return strings.TrimPrefix(op.Err.Error(), "tls: ")
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// plain takes gRPC's and etcd's own words off.
func plain(err error) string {
	if err == nil {
		return "no answer"
	}
	if isContext(err) {
		return "no answer in time"
	}
	text := err.Error()
	if st, ok := status.FromError(err); ok {
		text = st.Message()
	}
	text = strings.TrimPrefix(text, "etcdserver: ")
	text = strings.TrimPrefix(text, "mvcc: ")
	if _, after, ok := strings.Cut(text, `connection error: desc = "`); ok {
		text = strings.TrimSuffix(after, `"`)
	}
	return strings.TrimPrefix(text, "transport: ")
}
