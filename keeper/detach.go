package keeper

// detacher looks for the detach keys in what a client types. It passes on
// everything else, and holds back a beginning of the keys until the next bytes
// decide: that is why ctrl-p needs a second key press, in Docker too.
//
// The zero value has no keys and passes everything.
type detacher struct {
	keys []byte
	held int // so many bytes of keys were seen last and not passed on
}

// feed appends to dst what goes to the process. When the keys are complete it
// reports true; what was typed after them is dropped with the client.
func (d *detacher) feed(dst, typed []byte) ([]byte, bool) {
	if len(d.keys) == 0 {
		return append(dst, typed...), false
	}
	for _, b := range typed {
		// On a mismatch the held bytes may end in a shorter beginning of the keys
		// (keys "aab", typed "aaab"): fall back to it as Knuth, Morris and Pratt
		// do, and let go only of the bytes before it.
		for d.held > 0 && d.keys[d.held] != b {
			shorter := d.border()
			dst = append(dst, d.keys[:d.held-shorter]...)
			d.held = shorter
		}
		if d.keys[d.held] != b {
			dst = append(dst, b)
			continue
		}
		d.held++
		if d.held == len(d.keys) {
			d.held = 0
			return dst, true
		}
	}
	return dst, false
}

// border is the length of the longest beginning of the held keys, shorter than
// them, that is also their end. Keys are a handful of bytes: no table is kept.
func (d *detacher) border() int {
	held := d.keys[:d.held]
	for n := len(held) - 1; n > 0; n-- {
		if string(held[:n]) == string(held[len(held)-n:]) {
			return n
		}
	}
	return 0
}
