package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"linkspan/cnm"
)

// Cluster is the members as a client sees them: who they are, how they are, and changes
// to them. Any host of the mesh may ask.
type Cluster struct {
	c    *clientv3.Client
	tls  *tls.Config
	dial []grpc.DialOption
	urls []string
	log  *slog.Logger
}

// ClusterConfig says where the members are (https://10.0.0.1:2379) and who asks.
type ClusterConfig struct {
	Endpoints []string
	// TLS has the CA and a certificate as client; nil: no TLS.
	TLS *tls.Config
	// Dial are further options of its connections: who asks, where etcd has users.
	Dial []grpc.DialOption
	Log  *slog.Logger
}

// NewCluster waits for nothing: the first question does.
func NewCluster(c ClusterConfig) (*Cluster, error) {
	if len(c.Endpoints) == 0 {
		return nil, cnm.Invalid("no etcd member is named")
	}
	cl := &Cluster{tls: c.TLS, dial: c.Dial, urls: slices.Clone(c.Endpoints), log: c.Log}
	var err error
	cl.c, err = cl.client(c.Endpoints)
	return cl, err
}

func (c *Cluster) client(urls []string) (*clientv3.Client, error) {
	cl, err := clientv3.New(clientv3.Config{
		Endpoints: urls, TLS: c.tls, DialTimeout: 5 * time.Second,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		MaxUnaryRetries: 3, Logger: zap.NewNop(),
		DialOptions: append([]grpc.DialOption{grpc.WithDisableServiceConfig()}, c.dial...),
	})
	if err != nil {
		return nil, cnm.Invalid("etcd at %s: %w", strings.Join(urls, ", "), err)
	}
	return cl, nil
}

// Close ends it.
func (c *Cluster) Close() error { return c.c.Close() }

// Member is one of the cluster.
type Member struct {
	ID uint64
	// Name is empty of one that was added and has never run.
	Name                 string
	PeerURLs, ClientURLs []string
	// Learner: it is told everything and does not count for a majority (yet).
	Learner bool
}

// Members lists them as the majority knows them.
func (c *Cluster) Members(ctx context.Context) ([]Member, error) {
	r, err := c.c.MemberList(ctx)
	if err != nil {
		return nil, c.words("the members", err)
	}
	ms := make([]Member, 0, len(r.Members))
	for _, m := range r.Members {
		ms = append(ms, Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner})
	}
	slices.SortFunc(ms, func(a, b Member) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return ms, nil
}

// AddLearner makes a member known that is about to start: cluster is for its Config, with
// Existing. One with the same address that never started is used again, so that a
// promotion that was cut off can be repeated.
func (c *Cluster) AddLearner(ctx context.Context, name, peerURL string) (id uint64, cluster string, err error) {
	ms, err := c.Members(ctx)
	if err != nil {
		return 0, "", err
	}
	for _, m := range ms {
		switch same := slices.Contains(m.PeerURLs, peerURL); {
		case same && m.Name == "" && m.Learner:
			id = m.ID
		case same, m.Name == name:
			return 0, "", cnm.Conflict("etcd member %s: the cluster has one already, %s at %s: demote that host first", name, cmp.Or(m.Name, "unnamed"), strings.Join(m.PeerURLs, ", "))
		}
	}
	if id == 0 {
		err := c.patiently(ctx, func() error {
			r, err := c.c.MemberAddAsLearner(ctx, []string{peerURL})
			if err == nil {
				id = r.Member.ID
			}
			return err
		})
		if err != nil {
			return 0, "", c.words("member "+name+" was not added", err)
		}
		if ms, err = c.Members(ctx); err != nil {
			return 0, "", err
		}
	}
	var parts []string
	for _, m := range ms {
		switch {
		case m.ID == id:
			m.Name = name
		case m.Name == "":
			// Another one that has not started yet: etcd compares how many there are and
			// where, not what they are called (membership.ValidateClusterAndAssignIDs).
			m.Name = fmt.Sprintf("%x", m.ID)
		}
		for _, u := range m.PeerURLs {
			parts = append(parts, m.Name+"="+u)
		}
	}
	slices.Sort(parts)
	return id, strings.Join(parts, ","), nil
}

// Promote makes a learner a member that counts. It waits until the learner has what the
// others have, or ctx ends. One that counts already is left as it is.
func (c *Cluster) Promote(ctx context.Context, id uint64) error {
	what := fmt.Sprintf("member %x was not promoted", id)
	for {
		_, err := c.c.MemberPromote(ctx, id)
		switch {
		case err == nil, errors.Is(err, rpctypes.ErrMemberNotLearner):
			c.knows(ctx, id)
			return nil
		case errors.Is(err, rpctypes.ErrMemberLearnerNotReady), temporary(err):
			select {
			case <-ctx.Done():
				return cnm.Errorf(cnm.ErrUnavailable, "etcd: member %x has not caught up with the others: is its daemon running, and TCP port 2381 open between the members? %w", id, context.Cause(ctx))
			case <-time.After(200 * time.Millisecond):
			}
		default:
			return c.words(what, err)
		}
	}
}

// knows waits, for a moment, until a promoted member has heard of it itself: until then
// it refuses its own host's requests.
func (c *Cluster) knows(ctx context.Context, id uint64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ms, err := c.Members(ctx)
	if err != nil {
		return
	}
	at := slices.IndexFunc(ms, func(m Member) bool { return m.ID == id })
	if at < 0 || len(ms[at].ClientURLs) == 0 {
		return
	}
	cl, err := c.client(ms[at].ClientURLs)
	if err != nil {
		return
	}
	defer cl.Close()
	for ctx.Err() == nil {
		if st, err := cl.Status(ctx, ms[at].ClientURLs[0]); err == nil && !st.IsLearner {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// temporary are answers during an election, or when a configuration is being changed.
func temporary(err error) bool {
	for _, e := range []error{rpctypes.ErrNoLeader, rpctypes.ErrLeaderChanged, rpctypes.ErrNotLeader, rpctypes.ErrTooManyRequests, rpctypes.ErrUnhealthy} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Remove takes a member out. The last one, and one without which the rest would have no
// majority, stay.
func (c *Cluster) Remove(ctx context.Context, id uint64) error {
	ms, err := c.Members(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(ms, func(m Member) bool { return m.ID == id })
	if at < 0 {
		return cnm.NotFound("etcd: the cluster has no member %x", id)
	}
	voters := 0
	for _, m := range ms {
		if !m.Learner {
			voters++
		}
	}
	if voters == 1 && !ms[at].Learner {
		return cnm.Conflict("etcd: %s is the last member that keeps the mesh's state: promote another host first, or end the mesh by `linkspan mesh leave` on each host", cmp.Or(ms[at].Name, fmt.Sprintf("%x", id)))
	}
	c.handOver(ctx, ms, id)
	err = c.patiently(ctx, func() error {
		_, err := c.c.MemberRemove(ctx, id)
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
		return c.words(fmt.Sprintf("member %s was not removed", ms[at].Name), err)
	}
	return nil
}

// settling is how long a leader may take to count members as healthy that are: it wants
// to have been connected to them for five seconds (etcd's HealthInterval).
const settling = 8 * time.Second

// patiently tries again what a cluster refuses that is not settled yet.
func (c *Cluster) patiently(ctx context.Context, f func() error) error {
	for began := time.Now(); ; {
		err := f()
		if err == nil || !temporary(err) || time.Since(began) > settling {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// handOver makes another member the leader when id is: an office that is handed over
// costs no election. It is a kindness, not a condition.
func (c *Cluster) handOver(ctx context.Context, ms []Member, id uint64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	at := slices.IndexFunc(ms, func(m Member) bool { return m.ID == id })
	if at < 0 || len(ms[at].ClientURLs) == 0 {
		return
	}
	cl, err := c.client(ms[at].ClientURLs) // only the leader can
	if err != nil {
		return
	}
	defer cl.Close()
	if st, err := cl.Status(ctx, ms[at].ClientURLs[0]); err != nil || st.Leader != id {
		return
	}
	for _, m := range ms {
		if m.ID != id && !m.Learner {
			if _, err := cl.MoveLeader(ctx, m.ID); err == nil {
				return
			}
		}
	}
}

// words turns what a client answers into a sentence.
func (c *Cluster) words(what string, err error) error {
	at := strings.Join(c.urls, ", ")
	switch {
	case errors.Is(err, rpctypes.ErrUnhealthy), errors.Is(err, rpctypes.ErrMemberNotEnoughStarted):
		return cnm.Errorf(cnm.ErrConflict, "etcd: %s: the members that run would have no majority: bring the others back, or remove one that is gone first: %w", what, err)
	case errors.Is(err, rpctypes.ErrTooManyLearners):
		return cnm.Errorf(cnm.ErrConflict, "etcd: %s: two hosts are being promoted already: wait, or demote one: %w", what, err)
	case errors.Is(err, rpctypes.ErrMemberNotFound):
		return cnm.Errorf(cnm.ErrNotFound, "etcd: %s: the cluster has no such member: %w", what, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return cnm.Errorf(cnm.ErrExhausted, "etcd: %s: a member has no room: %w", what, err)
	case errors.Is(err, rpctypes.ErrNoLeader), errors.Is(err, rpctypes.ErrTimeout), errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail), errors.Is(err, rpctypes.ErrTimeoutDueToConnectionLost):
		return cnm.Errorf(cnm.ErrUnavailable, "etcd: %s: the majority of the members cannot be reached: bring them back, or restore a backup: %w", what, err)
	}
	return cnm.Errorf(cnm.ErrUnavailable, "etcd at %s: %s: is a member running there, and TCP port 2379 open? %w", at, what, err)
}
