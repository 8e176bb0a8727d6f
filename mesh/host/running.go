package host

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"sync"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/mesh/trust"
	"linkspan/store/etcd"
	"linkspan/store/etcd/server"
)

// Prefix is before every key of the mesh in etcd, which may be other programs' too.
const Prefix = "/linkspan/v1/"

// running is what runs for one mesh, from joining it to leaving it.
type running struct {
	h        *Host
	identity *trust.Identity // nil in an external one
	tls      *tls.Config     // as client of etcd; nil: without
	login    *etcd.Login     // as a user of an external one; nil: it has none
	store    *etcd.Store
	mesh     *mesh.Mesh // nil until this host has joined

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
	once sync.Once // begin
	bell chan struct{}

	mu       sync.Mutex
	server   *server.Server
	startErr error // why there is no server although this host is a member
	gate     *gate
	gateErr  error
	renewErr error
	roleErr  error
	fenced   bool
	unheard  bool   // nobody answers: no last words
	wished   Role   // what the others know this host as
	roleList string // who does what, and since when that is so
	roleTurn time.Time
}

// prepare opens what needs no other host.
func (h *Host) prepare(ctx context.Context, st *State) (_ *running, err error) {
	r := &running{h: h, bell: make(chan struct{}, 1)}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if st.external() {
		r.tls, err = (&External{CA: st.CA, Cert: st.Cert, Key: st.Key}).tls()
		if st.User != "" {
			r.login = &etcd.Login{User: st.User, PasswordFile: st.PasswordFile}
		}
	} else {
		r.identity, err = trust.Folder(h.dir.tls()).Identity()
		if err == nil {
			r.tls = r.identity.Client()
		}
	}
	if err != nil {
		return nil, err
	}
	if r.store, err = etcd.Open(r.ctx, etcd.Options{Endpoints: st.Endpoints, TLS: r.tls, Login: r.login, Prefix: Prefix, Log: h.log, SyncEvery: time.Minute}); err != nil {
		return nil, err
	}
	if st.Phase == PhaseJoined || st.Phase == PhaseLeaving {
		if err := r.open(st); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// tls reads the files that --mesh-ca, --mesh-cert and --mesh-key name, at each
// connection anew: a renewed certificate needs no restart.
func (x *External) tls() (*tls.Config, error) {
	if x.CA == "" {
		return nil, nil
	}
	roots := x509.NewCertPool()
	b, err := os.ReadFile(x.CA)
	if err != nil {
		return nil, cnm.Invalid("--mesh-ca: %w", err)
	}
	if !roots.AppendCertsFromPEM(b) {
		return nil, cnm.Invalid("--mesh-ca %s has no certificate in it (PEM is wanted)", x.CA)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if x.Cert == "" {
		return c, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(x.Cert, x.Key)
		if err != nil {
			return nil, cnm.Invalid("--mesh-cert %s with --mesh-key %s: %w", x.Cert, x.Key, err)
		}
		return &pair, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return c, nil
}

// open makes package mesh of what the cache knows.
func (r *running) open(st *State) error {
	h := r.h
	self := st.Self
	self.Version = h.cfg.Version
	m, err := mesh.New(mesh.Config{Store: r.store, Local: h.cfg.Local, Mesh: st.Mesh, Self: self, Sink: h.cfg.Sink, Way: h.cfg.Way,
		Place: h.place(st), OnSelf: r.onSelf, From: r.from, Log: h.log, Hook: h.cfg.Hook})
	if err != nil {
		return err
	}
	r.mesh = m
	return nil
}

// from is the address that this machine speaks to etcd from.
func (r *running) from() string {
	for _, e := range r.store.Endpoints() {
		if a, err := sourceTo(r.ctx, e); err == nil {
			return a.String()
		}
	}
	return ""
}

func (h *Host) place(st *State) mesh.Place {
	if h.cfg.Place == nil {
		return mesh.Place{}
	}
	return h.cfg.Place(st.Listen)
}

// onSelf hears what the others know of this host.
func (r *running) onSelf(self mesh.Host, fenced bool) {
	r.mu.Lock()
	was := r.fenced
	r.fenced = fenced
	if !fenced && self.Role != "" {
		r.wished = Role(self.Role)
	}
	r.mu.Unlock()
	if fenced && !was {
		r.h.log.Warn("this host is out of the mesh: its tunnels are taken away; linkspan mesh status says why, and what to do")
	}
	r.ring()
}

// ring has the keeper look again.
func (r *running) ring() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// begin starts the background work, once.
func (r *running) begin() {
	r.once.Do(func() {
		r.work.Go(func() { r.keep(r.ctx) })
		if r.identity != nil {
			r.work.Go(func() { r.renew(r.ctx) })
		}
		if r.mesh != nil {
			r.goMesh()
		}
	})
}

// goMesh runs package mesh and what needs it.
func (r *running) goMesh() {
	h := r.h
	r.work.Go(func() {
		if err := r.mesh.Run(r.ctx); err != nil {
			h.log.Error("the mesh does not run", "err", err)
		}
	})
	r.work.Go(func() { r.look(r.ctx) })
	in := r.inside()
	for _, b := range h.cfg.Beside {
		r.work.Go(func() { b(r.ctx, in) })
	}
}

func (r *running) inside() Inside {
	st, _ := r.h.current()
	in := Inside{Mesh: r.mesh, Host: st.Host, Name: st.Name, Addr: st.Listen, Ports: st.Ports}
	if r.identity != nil {
		in.Server, in.Client = r.identity.Server(), r.identity.Client()
	}
	return in
}

// look tells the mesh when this host's end, or what it uses itself, is another.
func (r *running) look(ctx context.Context) {
	h := r.h
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		if st, _ := h.current(); st != nil && h.cfg.Used != nil {
			r.mesh.SetPrefixes(h.cfg.Used(ctx))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// parting is how long this member's etcd is kept for the store's last words.
const parting = 500 * time.Millisecond

// close ends all of it, and waits for it. A nil one is success.
func (r *running) close() error {
	if r == nil {
		return nil
	}
	r.stop()
	r.work.Wait()
	s := r.closeGate()
	wait := parting
	r.mu.Lock()
	if r.unheard {
		wait = 0
	}
	r.mu.Unlock()
	closed := make(chan error, 1)
	go func() {
		if r.store == nil {
			closed <- nil
			return
		}
		closed <- r.store.Close() // it gives back this host's sign of life, if anybody answers
	}()
	var err error
	select {
	case err = <-closed:
		closed = nil
	case <-time.After(wait):
	}
	if s != nil {
		s.Stop()
	}
	if closed != nil {
		select {
		case err = <-closed:
		case <-time.After(wait): // nobody answers, and it ends by itself within seconds
		}
	}
	return err
}

// closeGate ends this member's gate, and hands over its etcd, if any: who calls it stops
// that.
func (r *running) closeGate() *server.Server {
	r.mu.Lock()
	s, g := r.server, r.gate
	r.server, r.gate = nil, nil
	r.mu.Unlock()
	if g != nil {
		g.Close()
	}
	return s
}

// cluster asks etcd's members about themselves.
func (r *running) cluster(endpoints []string) (*server.Cluster, error) {
	scheme := "https://"
	if r.tls == nil {
		scheme = "http://"
	}
	var urls []string
	for _, e := range endpoints {
		urls = append(urls, scheme+e)
	}
	return server.NewCluster(server.ClusterConfig{Endpoints: urls, TLS: r.tls, Dial: r.login.DialOptions(), Log: r.h.log})
}

// withMembers asks those at the endpoints who etcd's members are.
func (r *running) withMembers(ctx context.Context, endpoints []string, f func(*server.Cluster, []server.Member) error) error {
	c, err := r.cluster(endpoints)
	if err != nil {
		return err
	}
	defer c.Close()
	ms, err := c.Members(ctx)
	if err != nil {
		return err
	}
	return f(c, ms)
}
