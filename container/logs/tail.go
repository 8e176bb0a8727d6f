package logs

import (
	"bytes"
	"io"
)

const block = 64 << 10

// tailOffset returns where the last n lines that match begin, reading backwards
// from end in blocks: its cost is what it skips over, not the file.
func tailOffset(r io.ReaderAt, end int64, n int, match func(line []byte) bool) (int64, error) {
	if n <= 0 {
		return end, nil
	}
	// head is the beginning, still without its start, of the line that ends at
	// or after the block's end.
	var head []byte
	for at := end; at > 0; {
		size := min(at, int64(block))
		at -= size
		buf := make([]byte, size, int(size)+len(head))
		if _, err := r.ReadAt(buf, at); err != nil {
			return 0, err
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
					return at + int64(i) + 1, nil
				}
			}
			if i < 0 {
				return 0, nil
			}
			buf = buf[:i+1]
		}
		head = buf
	}
	return 0, nil
}
