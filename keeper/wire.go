package keeper

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// The protocol: a unix stream socket; each frame is a header of five bytes
// (length of the body, big endian, and the number of descriptors that belong to
// it) and a JSON body. Not SOCK_SEQPACKET, whose messages cannot exceed the
// send buffer (208 KiB): a thousand port requests are near it.
//
// The first frame each way is a hello. Then the client sends requests, as many
// at once as it likes, and gets replies in any order, and events (replies with
// no ID).
const (
	headerLen = 5
	maxBody   = 16 << 20
	maxFiles  = 4 // descriptors in one frame
)

var errFrame = errors.New("keeper protocol violated")

// hello opens a connection. Protocol numbers what both sides must agree on;
// fields and operations are added without raising it.
type hello struct {
	Keeper   string `json:"keeper"` // always "linkspan"
	Protocol int    `json:"protocol"`
	Version  string `json:"version,omitempty"`
	Error    string `json:"error,omitempty"`
}

const protocol = 1

type request struct {
	ID   uint64          `json:"id"`
	Op   string          `json:"op"`
	Body json.RawMessage `json:"body,omitempty"`
}

type reply struct {
	ID    uint64          `json:"id,omitempty"`
	Event string          `json:"event,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
	Error *wireError      `json:"error,omitempty"`
}

// cutFrame takes one frame off buf. ok is false while it is not all there.
func cutFrame(buf []byte) (body []byte, files int, rest []byte, ok bool, err error) {
	if len(buf) < headerLen {
		return nil, 0, buf, false, nil
	}
	size, files := binary.BigEndian.Uint32(buf), int(buf[4])
	if size > maxBody || files > maxFiles {
		return nil, 0, nil, false, fmt.Errorf("%w: a frame of %d bytes with %d descriptors", errFrame, size, files)
	}
	end := headerLen + int(size)
	if len(buf) < end {
		return nil, 0, buf, false, nil
	}
	return buf[headerLen:end], files, buf[end:], true, nil
}

// makeFrame renders v as one frame.
func makeFrame(v any, files int) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody || files > maxFiles {
		return nil, fmt.Errorf("%w: %d bytes and %d descriptors are too many for one frame", errFrame, len(body), files)
	}
	frame := make([]byte, headerLen, headerLen+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	frame[4] = byte(files)
	return append(frame, body...), nil
}

// sendFrame writes a frame; the descriptors ride on its first byte.
func sendFrame(c *net.UnixConn, frame []byte, files ...int) error {
	if len(files) > 0 {
		n, _, err := c.WriteMsgUnix(frame, unix.UnixRights(files...), nil)
		if err != nil {
			return err
		}
		frame = frame[n:]
		if len(frame) == 0 {
			return nil
		}
	}
	_, err := c.Write(frame)
	return err
}

// frameReader reads frames and the descriptors that came with them. The kernel
// never merges bytes across a message with descriptors, so these arrive in the
// order of their frames; a frame says how many are its own.
type frameReader struct {
	c     *net.UnixConn
	buf   []byte
	files []int
}

// next returns the next frame, whose body is valid until the following call.
// The caller owns the descriptors.
func (r *frameReader) next() (body []byte, files []int, err error) {
	for {
		body, n, rest, ok, err := cutFrame(r.buf)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			if n > len(r.files) {
				return nil, nil, fmt.Errorf("%w: %d descriptors announced, %d came", errFrame, n, len(r.files))
			}
			files = append(files, r.files[:n]...)
			r.files = append(r.files[:0], r.files[n:]...)
			r.buf = rest
			return body, files, nil
		}
		if err := r.fill(); err != nil {
			return nil, nil, err
		}
	}
}

// fill reads once from the socket.
func (r *frameReader) fill() error {
	const step = 4 << 10
	need := step
	if len(r.buf) >= headerLen {
		need = max(step, headerLen+int(binary.BigEndian.Uint32(r.buf))-len(r.buf))
	}
	if cap(r.buf)-len(r.buf) < need {
		// A new buffer also lets a big one go once its frame was taken off.
		grown := make([]byte, len(r.buf), len(r.buf)+need)
		copy(grown, r.buf)
		r.buf = grown
	}
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := r.c.ReadMsgUnix(r.buf[len(r.buf):cap(r.buf)], oob)
	if oobn > 0 {
		if err := r.takeFiles(oob[:oobn]); err != nil {
			return err
		}
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case flags&unix.MSG_CTRUNC != 0:
		return fmt.Errorf("%w: more than %d descriptors in one message (or no descriptor left in this process)", errFrame, maxFiles)
	case n == 0:
		if len(r.buf) > 0 {
			return io.ErrUnexpectedEOF
		}
		return io.EOF
	}
	r.buf = r.buf[:len(r.buf)+n]
	return nil
}

func (r *frameReader) takeFiles(oob []byte) error {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return err
		}
		r.files = append(r.files, fds...)
	}
	// No frame of ours leaves descriptors unclaimed for long.
	if len(r.files) > 16*maxFiles {
		return fmt.Errorf("%w: descriptors that belong to no frame", errFrame)
	}
	return nil
}

// discard closes descriptors that came and were never claimed.
func (r *frameReader) discard() {
	closeAll(r.files)
	r.files = nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Bodies of requests and replies. A body that an operation does not need is
// absent.
type (
	idBody struct {
		ID string `json:"id"`
	}
	attachBody struct {
		ID      string        `json:"id"`
		Options AttachOptions `json:"options"`
	}
	cancelBody struct {
		Request uint64 `json:"request"`
	}
	ownerBody struct {
		Owner string `json:"owner"`
	}
	reserveBody struct {
		Requests []PortRequest `json:"requests"`
	}
	upgradeBody struct {
		Exe string `json:"exe"`
	}
	// endedEvent says that an attachment ended. Attach is the ID of its request.
	endedEvent struct {
		Attach   uint64 `json:"attach"`
		Detached bool   `json:"detached"`
	}
)

// The operations and events. The words are protocol: never change one.
const (
	opInfo       = "info"
	opOpen       = "open"
	opStarted    = "started"
	opDrain      = "drain"
	opClose      = "close"
	opCloseStdin = "close-stdin"
	opAttach     = "attach"
	opStreams    = "streams"
	opReserve    = "reserve"
	opRelease    = "release"
	opPorts      = "ports"
	opCancel     = "cancel"
	opShutdown   = "shutdown"
	opUpgrade    = "upgrade"

	opRetarget    = "retarget"
	opSetView     = "set-view"
	opRemoveView  = "remove-view"
	opViews       = "views"
	opSetNames    = "set-names"
	opRemoveNames = "remove-names"
	opKeepZones   = "keep-zones"
	opResolvers   = "resolvers"

	opSetTunnel    = "set-tunnel"
	opRemoveTunnel = "remove-tunnel"
	opTunnels      = "tunnels"

	eventEnded       = "ended"
	eventStdinClosed = "stdin-closed"
)
