package tap

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/reading"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func logMessage() []byte {
	ip := []byte("\x45\x00\x00\x28\x00\x00\x40\x00\x40\x11\x00\x00\xc0\xa8\x63\x32\xac\x11\x00\x02\x9c\x40\x00\x50\x00\x14\x00\x00")
	b := nfnl.Attr(nil, 1, []byte{8, 0, 2, 0}) // NFULA_PACKET_HDR
	b = nfnl.Text(b, attrPrefix, "ls:unpublished")
	b = nfnl.BE32(b, attrInDev, 2)
	b = nfnl.BE32(b, attrOutDev, 3)
	b = nfnl.BE32(b, attrPhysInDev, 4)
	b = nfnl.Attr(b, attrTimestamp, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(noon.Unix())), 250_000))
	b = nfnl.BE32(b, attrSeq, 41)
	return nfnl.Attr(b, attrPayload, ip)
}

func links(i uint32) string { return map[uint32]string{2: "eth0", 3: "docker0", 4: "veth1"}[i] }

func TestLogged(t *testing.T) {
	now := func() time.Time { return noon }
	got := loggedOf(logMessage(), links, now)
	want := reading.Logged{Time: noon.Add(250 * time.Millisecond), Prefix: "ls:unpublished", In: "eth0", Out: "docker0", PhysIn: "veth1"}
	want.Packet, _ = reading.ParsePacket([]byte("\x45\x00\x00\x28\x00\x00\x40\x00\x40\x11\x00\x00\xc0\xa8\x63\x32\xac\x11\x00\x02\x9c\x40\x00\x50\x00\x14\x00\x00"))
	if !got.Time.Equal(want.Time) || got.seq != 41 {
		t.Errorf("%+v", got)
	}
	if got.Time = want.Time; got.Logged != want {
		t.Errorf("%+v\nwant %+v", got.Logged, want)
	}
	if got := loggedOf(nil, links, now); !got.Time.Equal(noon) || got.Packet.Src.IsValid() {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestChangeKind(t *testing.T) {
	for _, c := range []struct {
		typ, flags uint16
		want       string
	}{
		{unix.NFNL_SUBSYS_CTNETLINK << 8, unix.NLM_F_CREATE | unix.NLM_F_EXCL, reading.FlowNew},
		{unix.NFNL_SUBSYS_CTNETLINK << 8, 0, reading.FlowUpdate},
		{unix.NFNL_SUBSYS_CTNETLINK<<8 | 2, 0, reading.FlowDestroy},
		{unix.NFNL_SUBSYS_CTNETLINK_EXP << 8, 0, ""},
		{unix.NLMSG_ERROR, 0, ""},
	} {
		if got := changeKind(c.typ, c.flags); got != c.want {
			t.Errorf("%x %x: %q, want %q", c.typ, c.flags, got, c.want)
		}
	}
}

func TestConnectionOf(t *testing.T) {
	b := make([]byte, diagMessage)
	b[0], b[1] = unix.AF_INET6, 1
	binary.BigEndian.PutUint16(b[4:], 80)
	binary.BigEndian.PutUint16(b[6:], 40000)
	mapped := netip.MustParseAddr("::ffff:172.17.0.2").As16()
	copy(b[8:], mapped[:])
	other := netip.MustParseAddr("fd00::3").As16()
	copy(b[24:], other[:])
	info := make([]byte, infoSegsIn+4)
	binary.NativeEndian.PutUint64(info[infoBytesAcked:], 1000)
	binary.NativeEndian.PutUint64(info[infoBytesReceived:], 2000)
	binary.NativeEndian.PutUint32(info[infoSegsOut:], 3)
	binary.NativeEndian.PutUint32(info[infoSegsIn:], 4)
	got, ok := connectionOf(nfnl.Attr(b, diagInfo, info))
	want := reading.Connection{Local: netip.MustParseAddrPort("172.17.0.2:80"), Remote: netip.MustParseAddrPort("[fd00::3]:40000"), State: "ESTABLISHED",
		SentBytes: 1000, BackBytes: 2000, SentPackets: 3, BackPackets: 4}
	if !ok || got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, ok := connectionOf(b[:20]); ok {
		t.Error("half a message")
	}
	if got, ok := connectionOf(nfnl.Attr(b, diagInfo, info[:40])); !ok || got.SentBytes != 0 {
		t.Errorf("of an old kernel: %+v", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(logMessage())
	f.Add(make([]byte, diagMessage))
	f.Fuzz(func(t *testing.T, b []byte) {
		loggedOf(b, links, time.Now)
		connectionOf(b)
		split(b, func(_, _ uint16, body []byte) { loggedOf(body, links, time.Now) })
	})
}
