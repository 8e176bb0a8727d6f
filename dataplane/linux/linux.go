// Package linux observes and applies kernel objects on the real kernel: links,
// addresses and routes by netlink, sysctls through /proc, namespaces by their
// pins, and the nftables table.
//
// A Kernel belongs to the network namespace in which it was made; it reaches
// sandboxes through their pins. Everything it makes carries its instance's mark,
// in the very message that makes it:
//
//	links       IFLA_GROUP 0x4C000000 | instance (24 bits)
//	dying links IFLA_GROUP 0x4D000000 | instance: renamed, down, about to be deleted
//	routes      protocol 76 ("L"), registered with nobody, unused by iproute2; those on no
//	            link (unreachable) by the metric 0xFF000000 | instance as well
//	neighbours  protocol 76
//	namespaces  the pin, in the instance's own folder
//	nftables    the table, by name
//
// Addresses, flags, entries of forwarding databases and sysctls belong to the link they
// are on. What carries no
// mark of this instance is never changed.
package linux

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"linkspan/dataplane"
	"linkspan/netns"
)

// The marks; see the package comment.
const (
	groupMark     = 0x4C000000
	doomedMark    = 0x4D000000
	instanceBits  = 0x00FFFFFF
	routeProtocol = 76
)

// Config says which instance this is.
type Config struct {
	// Instance tells daemons apart; its low 24 bits count and must not be 0.
	Instance uint32
	// Table is the name of this instance's nftables table (families inet, bridge).
	Table string
	// PinDir is the folder of this instance's namespace pins; it is made.
	PinDir string
	// Log gets what happens in the background; nil: slog.Default().
	Log *slog.Logger
	// OnShared is told a shared sysctl's value right before it is changed the first
	// time, so that it can be given back. An error keeps the sysctl as it is.
	OnShared func(name, prior string) error
	// Hook is called before and after every kernel operation ("before create link
	// docker0"), between the messages of those that need several ("between load and
	// seal table inet x"), and around the background's work ("before delete doomed
	// links"); nil outside of crash tests. It may be called from any goroutine.
	Hook func(point string)
	// NFT is the nft program; empty: found in PATH.
	NFT string
	// SysctlDirs are where settings of the host are written down; nil: sysctl(8)'s.
	SysctlDirs []string
}

// Instance decodes a hex instance id ("a1b2c3", or longer: its first 24 bits).
func Instance(hexID string) (uint32, error) {
	if len(hexID) < 6 {
		return 0, fmt.Errorf("instance id %q: want at least six hex digits", hexID)
	}
	b, err := hex.DecodeString(hexID[:6])
	if err != nil {
		return 0, fmt.Errorf("instance id %q: %w", hexID, err)
	}
	n := uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	if n == 0 {
		return 0, fmt.Errorf("instance id %q: its first six digits are all zero", hexID)
	}
	return n, nil
}

// Kernel implements dataplane.Kernel. All methods are safe for concurrent use.
type Kernel struct {
	cfg   Config
	log   *slog.Logger
	group uint32 // of our links
	doom  uint32 // of links about to be deleted

	ns    *os.File // the namespace this kernel belongs to
	inode uint64   // its identity
	rt    *rtnl
	// late is the background's own rt: deleting links takes 20 to 50 ms, most of them
	// without the kernel's lock, and no request shall wait for that behind our own.
	late *rtnl
	nft  *nfConn
	ct   *netlink.Handle // conntrack; open for life for the reason given at nfConn

	// hostMu: sequences of messages on host links (look up, create, adjust) are
	// one step to others. The kernel has one RTNL lock anyway.
	hostMu sync.Mutex
	// tableMu: one nftables transaction with its retries at a time.
	tableMu sync.Mutex

	// nfFile is the switch that BridgeNF reads.
	nfMu   sync.Mutex
	nfFile *os.File

	back *background
	news *advertiser

	// Closed twice, the sockets' numbers would be somebody else's by then.
	closing  sync.Once
	closeErr error

	// What the watch compares news with: see Watch.
	made madeLinks
	ways ways
	// borrowed are links of others that have something declared on them.
	borrowed borrowed
	runs     runs
	params   parameters
}

var _ dataplane.Kernel = (*Kernel)(nil)

// New opens the kernel of the calling thread's network namespace and sweeps
// links that a killed predecessor of the same instance was about to delete.
func New(cfg Config) (*Kernel, error) {
	if cfg.Instance&instanceBits == 0 {
		return nil, errors.New("dataplane: instance is zero: links could not be told from strangers'")
	}
	if cfg.Table == "" || cfg.PinDir == "" {
		return nil, errors.New("dataplane: table and pin folder must be named")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.NFT == "" {
		cfg.NFT = "nft"
		if p, err := exec.LookPath("nft"); err == nil {
			cfg.NFT = p
		}
	}
	if cfg.SysctlDirs == nil {
		cfg.SysctlDirs = sysctlDirs
	}
	if err := netns.Prepare(cfg.PinDir); err != nil {
		return nil, err
	}
	k := &Kernel{cfg: cfg, log: cfg.Log,
		group: groupMark | cfg.Instance&instanceBits, doom: doomedMark | cfg.Instance&instanceBits}
	if err := k.open(); err != nil {
		k.closeSockets()
		return nil, err
	}
	k.back = newBackground(k)
	k.news = &advertiser{k: k, timers: map[*time.Timer]bool{}}
	k.back.sweep()
	return k, nil
}

func (k *Kernel) open() (err error) {
	if k.ns, err = netns.Current(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(k.ns.Fd()), &st); err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	k.inode = st.Ino
	return k.inHost(func() (err error) {
		if k.rt, err = newRTNL(); err != nil {
			return err
		}
		if k.late, err = newRTNL(); err != nil {
			return err
		}
		if k.nft, err = newNF(); err != nil {
			return err
		}
		k.ct, err = netlink.NewHandle(unix.NETLINK_NETFILTER)
		return err
	})
}

// inHost runs fn on a thread in the kernel's own namespace.
func (k *Kernel) inHost(fn func() error) error { return netns.DoFD(int(k.ns.Fd()), fn) }

// Settle waits until the background deletes so far are done.
func (k *Kernel) Settle(ctx context.Context) error { return k.back.settle(ctx) }

// Close settles, for as long as that takes, and ends the background work.
func (k *Kernel) Close() error {
	k.closing.Do(func() {
		k.news.close()
		k.closeErr = k.back.close()
		k.closeSockets()
	})
	return k.closeErr
}

func (k *Kernel) closeSockets() {
	if k.rt != nil {
		k.rt.close()
	}
	if k.late != nil {
		k.late.close()
	}
	if k.nft != nil {
		k.nft.Close()
	}
	if k.ct != nil {
		k.ct.Close()
	}
	if k.ns != nil {
		k.ns.Close()
	}
	if k.nfFile != nil {
		k.nfFile.Close()
	}
}

func (k *Kernel) hook(when string, op dataplane.Op) {
	if k.cfg.Hook != nil {
		k.cfg.Hook(when + " " + string(op.Verb) + " " + op.Object.Key())
	}
}

// point is a hook inside of an operation, between two of its messages, or in the
// background.
func (k *Kernel) point(name string) {
	if k.cfg.Hook != nil {
		k.cfg.Hook(name)
	}
}
