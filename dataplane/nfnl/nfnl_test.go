package nfnl

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/netns"
	"linkspan/probe"
)

func TestAttributes(t *testing.T) {
	b := Text(nil, 1, "abc")
	b = U32(b, 2, 7)
	b = Nest(b, 3, BE32(Attr(nil, 4, []byte{1, 2, 3, 4, 5}), 5, 9))
	if len(b)%4 != 0 {
		t.Errorf("%d bytes are not whole words", len(b))
	}
	seen := 0
	Each(b, func(typ uint16, d []byte) {
		seen++
		switch typ {
		case 1:
			if Str(d) != "abc" || len(d) != 4 {
				t.Errorf("text %q", d)
			}
		case 2:
			if Num(d) != 7 {
				t.Errorf("number %v", d)
			}
		case 3:
			Each(d, func(typ uint16, d []byte) {
				seen++
				if typ == 5 && BE(d) != 9 || typ == 4 && len(d) != 5 {
					t.Errorf("inside: %d %v", typ, d)
				}
			})
		}
	})
	if seen != 5 {
		t.Errorf("%d attributes, not 5", seen)
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		b    []byte
		want uint64
	}{{nil, 0}, {[]byte{5}, 5}, {[]byte{1, 2}, 0x102}, {[]byte{1, 2, 3, 4}, 0x1020304}, {[]byte{0, 0, 0, 0, 0, 0, 1, 0}, 256}, {make([]byte, 9), 0}} {
		if got := BE(c.b); got != c.want {
			t.Errorf("%v is %d, not %d", c.b, got, c.want)
		}
	}
	for _, n := range []int{0, 3, 5, 9} {
		if Num(make([]byte, n)) != 0 {
			t.Errorf("%d bytes are no number", n)
		}
	}
	if Str([]byte("ab\x00cd")) != "ab" || Str([]byte("ab")) != "ab" {
		t.Error("text")
	}
}

// FuzzEach: torn messages end the walk.
func FuzzEach(f *testing.F) {
	f.Add(Text(nil, 1, "abc"))
	f.Add([]byte{3, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		Each(b, func(_ uint16, d []byte) { Num(d); BE(d); _ = Str(d) })
		Messages(b, func(uint16, []byte) {})
	})
}

func open(t *testing.T, proto int) *Conn {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS)
	var c *Conn
	ns, err := netns.Unpinned(func() (err error) { c, err = Open(proto); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); ns.Close() })
	return c
}

func TestConversation(t *testing.T) {
	c := open(t, unix.NETLINK_ROUTE)
	links, resets := 0, 0
	m := Message{Type: unix.RTM_GETLINK, Body: make([]byte, unix.SizeofIfInfomsg)}
	if err := c.Dump(t.Context(), m, func() { resets++; links = 0 }, func(typ uint16, _ []byte) {
		if typ == unix.RTM_NEWLINK {
			links++
		}
	}); err != nil || links == 0 || resets != 1 {
		t.Errorf("%d links, %d resets, %v", links, resets, err)
	}
	// A refusal is the kernel's number, and the next conversation is not disturbed.
	body := make([]byte, unix.SizeofIfInfomsg)
	body[4] = 99
	if err := c.Do(t.Context(), Message{Type: unix.RTM_GETLINK, Body: body}, nil); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a link that is not there: %v", err)
	}
	body[4] = 1
	if err := c.Do(t.Context(), Message{Type: unix.RTM_GETLINK, Body: body}, func(typ uint16, _ []byte) { links = -1 }); err != nil || links != -1 {
		t.Errorf("%v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Do(gone, m, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestBatch(t *testing.T) {
	probe.Require(t, probe.Root, probe.NFT)
	c := open(t, unix.NETLINK_NETFILTER)
	mark := func(typ uint16) Message { return Message{Type: typ, Body: Gen(0, unix.NFNL_SUBSYS_NFTABLES)} }
	table := func(msg uint16, flags uint16, name string) Message {
		return Message{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | msg, Flags: flags | unix.NLM_F_ACK, Body: Text(Gen(1, 0), unix.NFTA_TABLE_NAME, name)}
	}
	batch := func(all ...Message) error {
		all = append(append([]Message{mark(unix.NFNL_MSG_BATCH_BEGIN)}, all...), mark(unix.NFNL_MSG_BATCH_END))
		return c.Batch(t.Context(), all)
	}
	tables := func() (n int) {
		m := Message{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE, Body: Gen(0, 0)}
		if err := c.Dump(t.Context(), m, func() { n = 0 }, func(uint16, []byte) { n++ }); err != nil {
			t.Error(err)
		}
		return n
	}
	if err := batch(table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "a"), table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "b")); err != nil || tables() != 2 {
		t.Errorf("%v, %d tables", err, tables())
	}
	if err := batch(table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "c"), table(unix.NFT_MSG_DELTABLE, 0, "none")); !errors.Is(err, unix.ENOENT) || tables() != 2 {
		t.Errorf("half a batch: %v, %d tables", err, tables())
	}
	done := make(chan error, 1)
	go func() { done <- batch(table(unix.NFT_MSG_DELTABLE, 0, "a"), table(unix.NFT_MSG_DELTABLE, 0, "b")) }()
	select {
	case err := <-done:
		if err != nil || tables() != 0 {
			t.Errorf("%v, %d tables", err, tables())
		}
	case <-time.After(30 * time.Second):
		t.Error("the batch was never answered")
	}
}
