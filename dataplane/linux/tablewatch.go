package linux

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
)

// From linux/netfilter/nfnetlink.h and nf_tables.h.
const (
	groupNFTables = 7 // NFNLGRP_NFTABLES
	genProcPID    = 2 // NFTA_GEN_PROC_PID
	genProcName   = 3 // NFTA_GEN_PROC_NAME
	anyTable      = 1 // NFTA_*_TABLE, and NFTA_TABLE_NAME
)

// tableWatch judges what nftables tells: of each transaction its changes, then
// (NEWGEN) which process made it.
type tableWatch struct {
	k    *Kernel
	l    *listener
	tell func(dataplane.Touch)
	now  dataplane.Touch // of the transaction that is being told
}

func (w *tableWatch) open() (err error) {
	w.l, err = newListener(unix.NETLINK_NETFILTER, groupNFTables)
	return err
}

func (w *tableWatch) close() {
	if w.l != nil {
		w.l.close()
	}
}

func (w *tableWatch) run() {
	w.k.hear("nftables", w.l, w.message, w.lost, func() time.Time { return time.Time{} }, func() {})
}

func (w *tableWatch) lost() {
	w.now = dataplane.Touch{}
	w.tell(dataplane.Touch{Page: true})
}

func (w *tableWatch) message(h unix.NlMsghdr, m []byte) {
	// What we commit ourselves carries our socket's address.
	if h.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m) < 4 || h.Pid == w.k.nft.pid {
		return
	}
	family, typ := m[0], h.Type&0xff
	if typ == unix.NFT_MSG_NEWGEN {
		w.generation(m[4:])
		return
	}
	table, set := "", ""
	eachAttr(m[4:], func(t int, b []byte) {
		switch {
		case t == anyTable:
			table = unix.ByteSliceToString(b)
		case t == unix.NFTA_SET_ELEM_LIST_SET:
			set = unix.ByteSliceToString(b)
		}
	})
	if table != w.k.cfg.Table || family != unix.NFPROTO_INET && family != unix.NFPROTO_BRIDGE {
		return
	}
	element := typ == unix.NFT_MSG_NEWSETELEM || typ == unix.NFT_MSG_DELSETELEM
	switch {
	case !element, set == checksums, strings.HasPrefix(set, marker):
		w.now.Page = true
	case !w.now.Sets[set]:
		w.now.Add(dataplane.Touch{Sets: map[string]bool{set: true}})
	}
}

// generation ends a transaction.
func (w *tableWatch) generation(attrs []byte) {
	t := w.now
	w.now = dataplane.Touch{}
	pid, name := 0, ""
	eachAttr(attrs, func(typ int, b []byte) {
		switch typ {
		case genProcPID:
			pid = int(number32(b))
		case genProcName:
			name = unix.ByteSliceToString(b)
		}
	})
	if ours := w.k.runs.heard(pid); ours || t.Empty() {
		return
	}
	if name != "" {
		t.By = fmt.Sprintf("%s (pid %d)", name, pid)
	}
	w.tell(t)
}
