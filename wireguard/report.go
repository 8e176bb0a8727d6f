package wireguard

import (
	"context"
	"time"
)

// Report is how the tunnels are, for people.
type Report struct {
	Device string `json:"device"`
	Kind   string `json:"kind,omitempty"` // KindKernel or KindUserSpace
	// Err says why they do not work; empty: they do.
	Err   string       `json:"err,omitempty"`
	Key   PublicKey    `json:"key"`
	Made  time.Time    `json:"made,omitzero"` // the key
	Hosts []HostReport `json:"hosts,omitempty"`
}

// HostReport is the tunnel to one host.
type HostReport struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Key says whether it has published one, Peer whether the device has it.
	Key  bool `json:"key"`
	Peer bool `json:"peer"`
	// Up: there is a session. Handshake is when the last one was begun.
	Up        bool      `json:"up"`
	Handshake time.Time `json:"handshake,omitzero"`
	Endpoint  string    `json:"endpoint,omitempty"`
	Received  uint64    `json:"received"`
	Sent      uint64    `json:"sent"`
}

// Report asks the device.
func (m *Manager) Report(ctx context.Context) Report {
	m.mu.Lock()
	r := Report{Device: m.cfg.Device, Kind: m.kind}
	if m.keys != nil {
		r.Key = m.keys.Current().Public()
		r.Made, _ = m.keys.Made()
	}
	err, hosts := m.err, m.wanted.Hosts
	m.mu.Unlock()
	var st Status
	if err == nil {
		st, err = m.dev.Status(ctx, m.cfg.Device)
	}
	switch {
	case err != nil:
		r.Err = err.Error()
	case st.Err != "":
		r.Err = st.Err
	}
	now := time.Now()
	for _, h := range hosts {
		hr := HostReport{ID: h.ID, Name: h.Name, Key: h.Key != ""}
		if key, err := ParsePublicKey(h.Key); err == nil {
			if p, ok := st.Peer(key); ok {
				hr.Peer, hr.Up, hr.Handshake, hr.Received, hr.Sent = true, p.Up(now), p.Handshake, p.Received, p.Sent
				if p.Endpoint.IsValid() {
					hr.Endpoint = p.Endpoint.String()
				}
			}
		}
		r.Hosts = append(r.Hosts, hr)
	}
	return r
}

// String is one line for `linkspan mesh status`: the kind, or why there is none.
func (r Report) String() string {
	if r.Err != "" {
		return r.Err
	}
	return r.Kind
}
