package logs

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

const block = 64 << 10

// tailOffset returns where the last n lines that match begin, and how many of the
// n are not there, reading backwards from end in blocks: its cost is what it skips
// over, not the file.
func tailOffset(r io.ReaderAt, end int64, n int, match func(line []byte) bool) (offset int64, left int, err error) {
	if n <= 0 {
		return end, 0, nil
	}
	// head is the beginning, still without its start, of the line that ends at
	// or after the block's end.
	var head []byte
	for at := end; at > 0; {
		size := min(at, int64(block))
		at -= size
		buf := make([]byte, size, int(size)+len(head))
		if _, err := r.ReadAt(buf, at); err != nil {
			return 0, 0, err
		}
		buf = append(buf, head...)
		for {
			// The newline that ends the last line does not begin another.
			i := bytes.LastIndexByte(bytes.TrimSuffix(buf, []byte{'\n'}), '\n')
			if i < 0 && at > 0 {
				break
			}
			if match(buf[i+1:]) {
				if n--; n == 0 {
					return at + int64(i) + 1, 0, nil
				}
			}
			if i < 0 {
				return 0, n, nil
			}
			buf = buf[:i+1]
		}
		head = buf
	}
	return 0, n, nil
}

// tailForward is tailOffset for what can only be read from its beginning.
func tailForward(r io.Reader, n int, match func(line []byte) bool) (offset int64, left int, err error) {
	var starts []int64 // a ring of the last n
	next := 0
	in := bufio.NewReaderSize(r, block)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 && n > 0 && match(line) {
			if len(starts) < n {
				starts = append(starts, offset)
			} else {
				starts[next] = offset
			}
			next = (next + 1) % n
		}
		offset += int64(len(line))
		switch {
		case errors.Is(err, io.EOF):
			switch {
			case n <= 0:
				return offset, 0, nil
			case len(starts) < n:
				return 0, n - len(starts), nil
			}
			return starts[next], 0, nil
		case err != nil:
			return 0, 0, err
		}
	}
}
