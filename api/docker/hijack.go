package docker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"linkspan/cnm"

	apitypes "github.com/moby/moby/api/types"
)

// stolen is a connection taken over from the HTTP server: from now on it
// carries a container's stdio, not HTTP.
type stolen struct {
	conn net.Conn
	// file is a second descriptor of the same connection, to be handed over.
	file *os.File
	// pending are bytes that the HTTP server had read beyond the request.
	pending []byte
}

// hijack takes the connection over and says so to the client: 101 if it asked
// for an upgrade, a plain 200 to clients before 1.20. mux names the content
// type only; framing is the stream's business.
func (c *call) hijack(mux bool) (*stolen, error) {
	_, upgrade := c.R.Header["Upgrade"]
	conn, rw, err := c.w.Hijack()
	if err != nil {
		return nil, fmt.Errorf("taking over the connection of %s: %w", c.R.URL.Path, err)
	}
	s := &stolen{conn: conn}
	if s.file, err = dup(conn); err != nil {
		// Too late for a status on this server; HTTP can still be written by hand.
		_, _ = io.WriteString(conn, "HTTP/1.1 501 Not Implemented\r\nConnection: close\r\n\r\n")
		s.close()
		return nil, err
	}
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Reader.Peek(n)
		s.pending = append([]byte(nil), b...)
	}
	if _, err := io.WriteString(conn, c.upgradeHead(upgrade, mux)); err != nil {
		s.close()
		return nil, fmt.Errorf("answering %s: %w", c.R.URL.Path, err)
	}
	c.w.status = http.StatusSwitchingProtocols
	return s, nil
}

func (c *call) upgradeHead(upgrade, mux bool) string {
	media := apitypes.MediaTypeRawStream
	var b strings.Builder
	if upgrade {
		if mux && !c.Version.Before(42) {
			media = apitypes.MediaTypeMultiplexedStream
		}
		b.WriteString("HTTP/1.1 101 UPGRADED\r\nContent-Type: " + media + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n")
	} else {
		b.WriteString("HTTP/1.1 200 OK\r\nContent-Type: " + media + "\r\n")
	}
	_ = c.Header().WriteSubset(&b, map[string]bool{"Content-Type": true, "Content-Length": true, "Connection": true})
	b.WriteString("\r\n")
	return b.String()
}

// dup makes a second descriptor of the connection. What is handed over must be
// a socket of the kernel's: a TLS session lives in this process.
func dup(conn net.Conn) (*os.File, error) {
	f, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, cnm.Unsupported("not yet: attach and exec over a connection of type %T; use the unix socket or plain TCP", conn)
	}
	file, err := f.File()
	if err != nil {
		return nil, fmt.Errorf("duplicating the client's connection: %w", err)
	}
	return file, nil
}

// close drops our descriptors. Whoever was handed one has made its own, so the
// connection itself goes on.
func (s *stolen) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
	_ = s.conn.Close()
}

// complain tells the person on the other end what went wrong after the
// takeover, where no status can be sent any more.
func (s *stolen) complain(err error, mux bool) {
	text := []byte("Error: " + err.Error() + "\r\n")
	if mux {
		text = frame(2, text)
	}
	if _, werr := s.conn.Write(text); werr != nil && !errors.Is(werr, net.ErrClosed) {
		return // the client is gone; there is nobody to tell
	}
}

// frame puts stdcopy's header before a chunk: stream number, three zero bytes,
// length in big endian.
func frame(stream byte, chunk []byte) []byte {
	n := len(chunk)
	return append([]byte{stream, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, chunk...)
}
