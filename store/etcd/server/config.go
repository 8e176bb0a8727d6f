package server

import (
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// DefaultQuota is the size in bytes that the database may reach. A mesh of 300 hosts and
// 10,000 endpoints has some 10 MB of keys; the rest is history until it is compacted.
const DefaultQuota = 2 << 30

// Config says what one member is. Name, Dir, Client and Peer are needed.
type Config struct {
	// Name is the member's, one of its own in the cluster.
	Name string
	// Dir is the folder of its data, made with mode 0700.
	Dir string
	// Client and Peer are listened on, and told to clients and to the other members
	// (the mesh's ports are TCP 2379 and 2381).
	Client, Peer netip.AddrPort
	// Cert, Key and CA are PEM files; Cert and Key may be one file. They are read again
	// at each handshake, so that a renewed certificate needs no restart. Clients and
	// peers must show a certificate of the same CA. Empty: no TLS, for tests.
	Cert, Key, CA string
	// CRL is a file (DER) of certificates that are refused although the CA made
	// them. It is read at each handshake, and must be there. Empty: none.
	CRL string
	// Cluster is what Members.AddLearner answered, for a member that joins others
	// (Existing). A first member has none. Once the folder has data neither is read.
	Cluster  string
	Existing bool
	// Token keeps members of different clusters apart: the mesh's id.
	Token string
	// Quota in bytes; 0: DefaultQuota.
	Quota int64
	// Room in bytes below which a lone member takes no more writes, before its disk is
	// full and it falls; 0: 32 MiB.
	Room int64
	Log  *slog.Logger
}

const lowRoom = 32 << 20

// firstRoom is what a member takes from the first moment: two segments of its log, which
// are allocated at once, and the database.
const firstRoom = 160 << 20

func (c Config) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

func (c Config) secure() bool { return c.Cert != "" }

func (c Config) url(a netip.AddrPort) url.URL {
	scheme := "http"
	if c.secure() {
		scheme = "https"
	}
	return url.URL{Scheme: scheme, Host: a.String()}
}

// PeerURL is what the other members call this one by.
func (c Config) PeerURL() string { u := c.url(c.Peer); return u.String() }

// ClientURL is what clients call this one by.
func (c Config) ClientURL() string { u := c.url(c.Client); return u.String() }

// check says what can never work.
func (c Config) check() error {
	switch {
	case c.Name == "" || strings.ContainsAny(c.Name, ",= "):
		return cnm.Invalid("etcd member %q: a member has a name without comma, equals sign and space", c.Name)
	case !filepath.IsAbs(c.Dir):
		return cnm.Invalid("etcd member %s: its data folder %q is not an absolute path", c.Name, c.Dir)
	case !c.Client.IsValid() || c.Client.Port() == 0:
		return cnm.Invalid("etcd member %s: it needs an address and a port for clients, such as 10.0.0.1:2379", c.Name)
	case !c.Peer.IsValid() || c.Peer.Port() == 0:
		return cnm.Invalid("etcd member %s: it needs an address and a port for the other members, such as 10.0.0.1:2381", c.Name)
	case c.secure() && (c.Key == "" || c.CA == "") || !c.secure() && (c.Key != "" || c.CA != ""):
		return cnm.Invalid("etcd member %s: certificate, key and CA go together", c.Name)
	}
	for what, file := range map[string]string{"certificate": c.Cert, "key": c.Key, "CA": c.CA} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			return cnm.Errorf(cnm.ErrUnavailable, "etcd member %s: its %s: %w", c.Name, what, err)
		}
	}
	return nil
}

// folder makes the data folder and says whether it has data.
func (c Config) folder() (used bool, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return false, cnm.Errorf(cnm.ErrUnavailable, "etcd member %s: its data folder: %w", c.Name, err)
	}
	// WAL files are the last thing that is made: without one etcd begins anew.
	names, _ := filepath.Glob(filepath.Join(c.Dir, "member", "wal", "*.wal"))
	return len(names) > 0, nil
}

// free is the room of the folder's filesystem in bytes, for this user.
func free(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

func (c Config) embed(log *zap.Logger) *embed.Config {
	e := embed.NewConfig()
	e.Name, e.Dir = c.Name, c.Dir
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	e.ListenClientUrls, e.AdvertiseClientUrls = []url.URL{c.url(c.Client)}, []url.URL{c.url(c.Client)}
	e.ListenPeerUrls, e.AdvertisePeerUrls = []url.URL{c.url(c.Peer)}, []url.URL{c.url(c.Peer)}
	if c.secure() {
		tls := transport.TLSInfo{CertFile: c.Cert, KeyFile: c.Key, TrustedCAFile: c.CA, ClientCertAuth: true,
			CRLFile: c.CRL, Logger: log,
			// A host with several addresses calls from any of them, which its
			// certificate does not name; that it has one of this CA is what counts.
			SkipClientSANVerify: true}
		e.ClientTLSInfo, e.PeerTLSInfo = tls, tls
		e.TlsMinVersion = "TLS1.3"
	}
	// etcd serves HTTP (health, metrics) beside gRPC. On one port with TLS gRPC would go
	// through Go's HTTP/2 server, which lets a busy watch starve the others
	// (etcd issue 15402): HTTP gets a socket of its own in the folder.
	if sock := filepath.Join(c.Dir, "http.sock"); len(sock) < 100 { // unix(7): 107
		e.ListenClientHttpUrls = []url.URL{{Scheme: "unix", Path: sock}}
	}
	e.EnableGRPCGateway = false
	e.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	e.InitialCluster = c.Cluster
	if c.Cluster == "" {
		e.InitialCluster = c.Name + "=" + c.PeerURL()
	}
	if c.Token != "" {
		e.InitialClusterToken = c.Token
	}
	if c.Existing {
		e.ClusterState = embed.ClusterStateFlagExisting
	}
	e.QuotaBackendBytes = c.Quota
	if c.Quota == 0 {
		e.QuotaBackendBytes = DefaultQuota
	}
	e.AutoCompactionMode, e.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
	e.MaxWalFiles, e.MaxSnapFiles = 3, 3
	e.MaxLearners = 2
	// A client that went away silently is noticed in 30 s, whatever is under way.
	e.GRPCKeepAliveInterval = 10 * time.Second
	return e
}

// words says of a failure what a person can do about it.
func (c Config) words(err error) error {
	switch {
	case strings.Contains(err.Error(), "address already in use"):
		port := c.Client.Port()
		if strings.Contains(err.Error(), c.Peer.String()) {
			port = c.Peer.Port()
		}
		return cnm.Errorf(cnm.ErrConflict, "etcd member %s: TCP port %d is taken by another program (`ss -ltnp sport = :%d` names it): stop it, or give the mesh another port: %w", c.Name, port, port, err)
	case strings.Contains(err.Error(), "cannot assign requested address"):
		return cnm.Errorf(cnm.ErrUnavailable, "etcd member %s: this host does not have the address %s (yet): %w", c.Name, c.Client.Addr(), err)
	case full(err):
		room, _ := free(c.Dir)
		return cnm.Errorf(cnm.ErrExhausted, "etcd member %s: its data folder %s is full (%d MiB free): make room there: %w", c.Name, c.Dir, room>>20, err)
	case strings.Contains(err.Error(), "error validating peerURLs"), strings.Contains(err.Error(), "member count is unequal"):
		return cnm.Errorf(cnm.ErrConflict, "etcd member %s: the cluster does not know it as %s: it was removed, or never added: demote this host and promote it again: %w", c.Name, c.PeerURL(), err)
	case strings.Contains(err.Error(), "could not retrieve cluster information"):
		return cnm.Errorf(cnm.ErrUnavailable, "etcd member %s: no member of the cluster answers: are the daemons there and TCP port %d open? %w", c.Name, c.Peer.Port(), err)
	}
	return cnm.Errorf(cnm.ErrUnavailable, "etcd member %s: %w", c.Name, err)
}

func full(err error) bool {
	said := err.Error()
	return slices.ContainsFunc([]string{syscall.ENOSPC.Error(), syscall.EDQUOT.Error(), "space to"}, func(s string) bool { return strings.Contains(said, s) })
}
