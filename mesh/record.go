package mesh

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// Record is what a mesh is, under the key "mesh".
type Record struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	// Secure is the /64 (RFC 4193, random) in which each host has an address by its
	// number, inside of WireGuard.
	Secure netip.Prefix `json:"secure"`
	// RoutedVNI numbers the VXLAN device of all routed networks.
	RoutedVNI uint32 `json:"routed_vni"`
	// VXLANPort is the UDP port of VXLAN devices (4789, RFC 7348).
	VXLANPort uint16 `json:"vxlan_port"`
	// Generation is another after the store was restored from a backup: then every host
	// puts back what is its own.
	Generation string `json:"generation"`
}

// The numbers of VXLAN networks that are ours: "L" is 0x4C.
const (
	firstVNI = 0x4C0001
	lastVNI  = 0x4CFFFF
	// routedVNI is below those that networks are given.
	routedVNI = 0x4C0000
)

// VXLANPort is the port that IANA gave to VXLAN.
const VXLANPort = 4789

// NewID makes an identifier that nobody else makes.
func NewID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// Found makes the mesh's record in a store that has none, or returns the one there is.
// An empty id is made.
func Found(ctx context.Context, st store.Store, id, name string) (Record, error) {
	if id == "" {
		id = NewID()
	}
	for {
		if r, ok, err := ReadRecord(ctx, st); err != nil || ok {
			return r, err
		}
		ula := [16]byte{0: 0xfd}
		_, _ = rand.Read(ula[1:6])
		r := Record{
			ID: id, Name: name, Created: time.Now().UTC().Truncate(time.Second), Generation: NewID(),
			Secure: netip.PrefixFrom(netip.AddrFrom16(ula), 64), RoutedVNI: routedVNI, VXLANPort: VXLANPort,
		}
		_, err := st.Commit(ctx,
			store.Op{Key: recordKey, Value: encode(r), Guard: true},
			store.Op{Key: vniKey(routedVNI), Value: []byte(recordKey)})
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, store.ErrCompare) {
			return Record{}, err
		}
	}
}

// ReadRecord returns the mesh's record, or ok false for a store without one.
func ReadRecord(ctx context.Context, st store.Store) (r Record, ok bool, err error) {
	e, ok, err := st.Get(ctx, recordKey)
	if err != nil || !ok {
		return r, false, err
	}
	if err := json.Unmarshal(e.Value, &r); err != nil {
		return r, false, cnm.Invalid("the mesh's record in the store (key %s) cannot be read: %w; restore a backup", recordKey, err)
	}
	return r, true, nil
}

// Restored tells all hosts that the store was restored from a backup: whatever they
// have that is newer, they put back.
func Restored(ctx context.Context, st store.Store) error {
	for {
		e, ok, err := st.Get(ctx, recordKey)
		if err != nil {
			return err
		}
		r, valid := decode[Record](e.Value)
		if !ok || !valid {
			return cnm.NotFound("the store holds no mesh: the backup is not one of a mesh's")
		}
		r.Generation = NewID()
		_, err = st.Commit(ctx, store.Op{Key: recordKey, Value: encode(r), Guard: true, IfRev: e.Rev})
		if !errors.Is(err, store.ErrCompare) {
			return err
		}
	}
}

// SecureAddr is the address of a host's number inside of WireGuard.
func SecureAddr(secure netip.Prefix, number int) netip.Addr {
	if !secure.IsValid() || number <= 0 {
		return netip.Addr{}
	}
	a := secure.Masked().Addr().As16()
	a[12], a[13], a[14], a[15] = byte(number>>24), byte(number>>16), byte(number>>8), byte(number)
	return netip.AddrFrom16(a)
}

func vniKey(n uint32) string { return fmt.Sprintf("%s%d", vniKeys, n) }
