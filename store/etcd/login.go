package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Login is a user of an etcd that has users (etcd.io/docs, role-based access control). Its
// password is in a file, which is read whenever etcd wants it: a new one needs no restart.
//
// The client's own way (clientv3.Config.Username) asks etcd while the client is made, and
// nothing here waits for a server.
type Login struct {
	User, PasswordFile string

	mu    sync.Mutex // one asks at a time
	token string
	since time.Time
}

// stale is how old the token of a stream may be when it begins: the server's simple ones
// are good for five minutes after their last use (--auth-token-ttl).
const stale = 2 * time.Minute

// authenticating is the one call that needs no token.
const authenticating = "/etcdserverpb.Auth/Authenticate"

// DialOptions make every request one of this user's.
func (l *Login) DialOptions() []grpc.DialOption {
	if l == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(l), grpc.WithChainUnaryInterceptor(l.unary), grpc.WithChainStreamInterceptor(l.stream)}
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (l *Login) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if t, _ := l.current(); t != "" {
		return map[string]string{rpctypes.TokenFieldNameGRPC: t}, nil
	}
	return nil, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. Whether there is TLS
// is for who names the cluster to say.
func (l *Login) RequireTransportSecurity() bool { return false }

func (l *Login) current() (token string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token, l.since
}

// unary asks for a token when a request is refused for want of one, which it is before
// anything is written, and sends it again.
func (l *Login) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	used, _ := l.current()
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err == nil || method == authenticating || !wantsToken(err) {
		return err
	}
	if err := l.authenticate(ctx, cc, used); err != nil {
		return err
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// stream sees to a token that is good: a watch that is refused ends without a word.
func (l *Login) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, begin grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if used, since := l.current(); used == "" || time.Since(since) > stale {
		if err := l.authenticate(ctx, cc, used); err != nil {
			return nil, err
		}
	}
	return begin(ctx, desc, cc, method, opts...)
}

func wantsToken(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrUserEmpty) || errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrAuthOldRevision)
}

// authenticate gets a token, unless another has got one since used was.
func (l *Login) authenticate(ctx context.Context, cc *grpc.ClientConn, used string) error {
	l.mu.Lock()
	if l.token != used {
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	b, err := os.ReadFile(l.PasswordFile)
	password := strings.TrimRight(string(b), "\r\n")
	switch {
	case err != nil:
		return status.Error(codes.FailedPrecondition, fmt.Sprintf("the password of its user %s cannot be read: %v", l.User, err))
	case password == "":
		return status.Error(codes.FailedPrecondition, fmt.Sprintf("the password of its user %s is to be in %s, and that is empty", l.User, l.PasswordFile))
	}
	resp, err := pb.NewAuthClient(cc).Authenticate(ctx, &pb.AuthenticateRequest{Name: l.User, Password: password}, grpc.WaitForReady(true))
	if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled) {
		resp, err = &pb.AuthenticateResponse{}, nil
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token, l.since = resp.Token, time.Now()
	return nil
}

// refusedUser says what to do when etcd does not know its user, or does not allow it what it
// asks.
func (s *Store) refusedUser(err error, what, at string) (text string, ok bool) {
	l := s.o.Login
	switch {
	case errors.Is(err, rpctypes.ErrAuthFailed) && l != nil:
		return fmt.Sprintf("cannot %s: etcd at %s refuses user %s with the password in %s: correct --mesh-user or the file, or set the password there (etcdctl user passwd %s)", what, at, l.User, l.PasswordFile, l.User), true
	case errors.Is(err, rpctypes.ErrUserEmpty) && l == nil:
		return fmt.Sprintf("cannot %s: etcd at %s wants a user: name it with --mesh-user, and the file of its password with --mesh-password-file, or show a certificate whose name is a user's there (--mesh-cert)", what, at), true
	case errors.Is(err, rpctypes.ErrPermissionDenied) && l != nil:
		return fmt.Sprintf("cannot %s: etcd at %s does not allow it to user %s: its administrator must grant a role of that user all keys below %q (etcdctl role grant-permission ROLE readwrite --prefix=true %s)", what, at, l.User, s.o.Prefix, s.o.Prefix), true
	}
	return "", false
}
