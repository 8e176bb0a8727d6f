package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"linkspan/cnm"
)

// Health is one member as a client sees it.
type Health struct {
	Member
	// Err is why it does not answer; the rest is zero then.
	Err             error
	Took            time.Duration
	Leader          bool
	LeaderID        uint64
	DBSize, DBInUse int64
	Version         string
	// Alarms are those of this member, in words.
	Alarms []string
}

// Health asks every member, at once. The list of members is the majority's, or what was
// configured when there is none (then Err of the call says so, and the rest stands).
func (c *Cluster) Health(ctx context.Context) ([]Health, error) {
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	ms, all := c.Members(short)
	if all != nil {
		for _, u := range c.urls {
			ms = append(ms, Member{ClientURLs: []string{u}})
		}
	}
	hs := make([]Health, len(ms))
	var wg sync.WaitGroup
	for i, m := range ms {
		hs[i].Member = m
		if len(m.ClientURLs) == 0 {
			hs[i].Err = cnm.Errorf(cnm.ErrUnavailable, "etcd: this member was added and has never run")
			continue
		}
		wg.Go(func() { c.ask(ctx, &hs[i]) })
	}
	wg.Wait()
	return hs, all
}

func (c *Cluster) ask(ctx context.Context, h *Health) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	cl, err := c.client(h.ClientURLs)
	if err != nil {
		h.Err = err
		return
	}
	defer cl.Close()
	began := time.Now()
	st, err := cl.Status(ctx, h.ClientURLs[0])
	if err != nil {
		h.Err = c.words("the member at "+h.ClientURLs[0]+" does not answer", err)
		return
	}
	h.Took = time.Since(began)
	h.ID, h.LeaderID, h.Leader = st.Header.MemberId, st.Leader, st.Leader != 0 && st.Leader == st.Header.MemberId
	h.DBSize, h.DBInUse, h.Version, h.Learner = st.DbSize, st.DbSizeInUse, st.Version, st.IsLearner
	for _, e := range st.Errors {
		// Alarms come as a protobuf's text, those of all members from each.
		if rest, ok := strings.CutPrefix(strings.TrimSpace(e), fmt.Sprintf("memberID:%d alarm:", h.ID)); ok {
			h.Alarms = append(h.Alarms, alarmWords(h.ID, rest))
		}
	}
	if !h.Leader && h.LeaderID == 0 {
		h.Alarms = append(h.Alarms, fmt.Sprintf("member %x sees no leader: it can write nothing", h.ID))
	}
}

// Compact forgets history up to now, and Defrag makes one member's file as small as its
// data; the member does not answer meanwhile.
func (c *Cluster) Compact(ctx context.Context) error {
	r, err := c.c.Get(ctx, "\x00")
	if err == nil {
		_, err = c.c.Compact(ctx, r.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err == nil || errors.Is(err, rpctypes.ErrCompacted) {
		return nil
	}
	return c.words("its history was not compacted", err)
}

// Defrag is of the member with this client URL.
func (c *Cluster) Defrag(ctx context.Context, clientURL string) error {
	if _, err := c.c.Defragment(ctx, clientURL); err != nil {
		return c.words("the member at "+clientURL+" was not defragmented", err)
	}
	return nil
}

// Disarm takes all alarms back. A member that still has no room raises its own again.
func (c *Cluster) Disarm(ctx context.Context) error {
	if _, err := c.c.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return c.words("its alarms were not taken back", err)
	}
	return nil
}

// Snapshot writes the whole database from the first member that gives it; a majority is
// not needed. It ends with its SHA-256. What was written is of no use when err is set.
func (c *Cluster) Snapshot(ctx context.Context, w io.Writer) error {
	var last error
	for _, u := range c.urls {
		n, err := c.snapshot(ctx, u, w)
		if err == nil {
			return nil
		}
		last = c.words("no backup from the member at "+u, err)
		if n > 0 { // another one cannot go on where this one ended
			break
		}
	}
	return last
}

func (c *Cluster) snapshot(ctx context.Context, url string, w io.Writer) (int64, error) {
	cl, err := c.client([]string{url})
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	up, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := cl.Status(up, url); err != nil {
		return 0, err
	}
	r, err := cl.SnapshotWithVersion(ctx)
	if err != nil {
		return 0, err
	}
	defer r.Snapshot.Close()
	return io.Copy(w, r.Snapshot)
}
