package mesh

import (
	"encoding/json"
	"net/netip"
	"strings"

	"linkspan/cnm"
)

// remote is an endpoint's record in the store. Whose it is, its key says. A later version
// may write more fields: this one reads what it knows of them. One that means something
// else by the same names goes below another prefix of the store ("v1").
type remote struct {
	Container string         `json:"container"`
	Name      string         `json:"name"`
	Addrs     []netip.Prefix `json:"addrs"`
	MAC       string         `json:"mac"`
	Names     []string       `json:"names,omitempty"`
	Exposed   []string       `json:"exposed,omitempty"`
}

func encodeRemote(r *cnm.Remote) []byte {
	return encode(remote{r.Container, r.ContainerName, r.Addrs, r.MAC, r.Names, r.Exposed})
}

// ByteSize is how long an endpoint's record is, for who plans a store's size.
func ByteSize(r cnm.Remote) int { return len(encodeRemote(&r)) }

// decodeRemote reads an endpoint's record but for what its key says. Each host reads each
// endpoint of its networks: what this version wrote is read by hand, which takes a tenth
// of encoding/json's time; all else is left to that.
func decodeRemote(b []byte) (cnm.Remote, bool) {
	s := scanner(b) // one copy; the strings of the record are parts of it
	if r, ok := s.remote(); ok {
		return r, true
	}
	var r remote
	if err := json.Unmarshal(b, &r); err != nil {
		return cnm.Remote{}, false
	}
	return cnm.Remote{Container: r.Container, ContainerName: r.Name, Addrs: r.Addrs, MAC: r.MAC, Names: r.Names, Exposed: r.Exposed}, true
}

// remoteOf reads an endpoint's record; ok is false for this host's own.
func (m *Mesh) remoteOf(key string, value []byte) (r cnm.Remote, ok bool) {
	s, ok := strings.CutPrefix(key, endpointKeys)
	if !ok {
		return r, false
	}
	_, s, _ = strings.Cut(s, "/")
	host, id, ok := strings.Cut(s, "/")
	if !ok || host == m.id {
		return r, false
	}
	if r, ok = decodeRemote(value); ok {
		r.ID, r.Host = id, host
	}
	return r, ok
}

// scanner is what is left to read of a record. Its methods say false of all that
// encodeRemote does not write, valid or not.
type scanner string

func (s *scanner) remote() (r cnm.Remote, ok bool) {
	if !s.next('{') {
		return r, false
	}
	for first := true; !s.next('}'); first = false {
		if !first && !s.next(',') {
			return r, false
		}
		field, ok := s.text()
		if !ok || !s.next(':') {
			return r, false
		}
		switch field {
		case "container":
			r.Container, ok = s.text()
		case "name":
			r.ContainerName, ok = s.text()
		case "addrs":
			r.Addrs, ok = listOf(s, (*scanner).prefix)
		case "mac":
			r.MAC, ok = s.text()
		case "names":
			r.Names, ok = listOf(s, (*scanner).text)
		case "exposed":
			r.Exposed, ok = listOf(s, (*scanner).text)
		default:
			return r, false
		}
		if !ok {
			return r, false
		}
	}
	return r, *s == ""
}

func (s *scanner) next(c byte) bool {
	if *s == "" || (*s)[0] != c {
		return false
	}
	*s = (*s)[1:]
	return true
}

// text reads a string of plain ASCII without escapes.
func (s *scanner) text() (string, bool) {
	if !s.next('"') {
		return "", false
	}
	for i := 0; i < len(*s); i++ {
		switch c := (*s)[i]; {
		case c == '"':
			out := string((*s)[:i])
			*s = (*s)[i+1:]
			return out, true
		case c < ' ' || c > '~' || c == '\\':
			return "", false
		}
	}
	return "", false
}

func (s *scanner) prefix() (netip.Prefix, bool) {
	t, ok := s.text()
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(t)
	return p, err == nil
}

func listOf[T any](s *scanner, one func(*scanner) (T, bool)) ([]T, bool) {
	if !s.next('[') {
		return nil, false
	}
	end := max(0, strings.IndexByte(string(*s), ']'))
	out := make([]T, 0, strings.Count(string(*s)[:end], ",")+1)
	for !s.next(']') {
		if len(out) > 0 && !s.next(',') {
			return nil, false
		}
		v, ok := one(s)
		if !ok {
			return nil, false
		}
		out = append(out, v)
	}
	return out, true
}
