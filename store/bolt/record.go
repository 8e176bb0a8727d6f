package bolt

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"linkspan/store"
)

// A record is the value of a key in the file:
//
//	8 bytes  revision, big endian
//	4 bytes  CRC-32C of key, revision and value
//	n bytes  value
//
// bbolt checks its meta pages only; the sum finds a page that the disk changed.
const recordHead = 12

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(key string, value []byte, rev int64) []byte {
	b := make([]byte, recordHead, recordHead+len(value))
	binary.BigEndian.PutUint64(b, uint64(rev))
	b = append(b, value...)
	binary.BigEndian.PutUint32(b[8:], sum([]byte(key), b))
	return b
}

// decode copies what it returns: raw is memory of the mapped file.
func decode(key, raw []byte) (store.Entry, error) {
	rev, err := check(key, raw)
	if err != nil {
		return store.Entry{}, err
	}
	v := bytes.Clone(raw[recordHead:])
	if v == nil {
		v = []byte{}
	}
	return store.Entry{Key: string(key), Value: v, Rev: rev}, nil
}

func check(key, raw []byte) (rev int64, err error) {
	if len(raw) < recordHead {
		return 0, damaged("the record of key %q has %d bytes", key, len(raw))
	}
	if binary.BigEndian.Uint32(raw[8:]) != sum(key, raw) {
		return 0, damaged("the record of key %q does not match its checksum", key)
	}
	return int64(binary.BigEndian.Uint64(raw)), nil
}

func sum(key, record []byte) uint32 {
	c := crc32.Update(0, castagnoli, key)
	c = crc32.Update(c, castagnoli, record[:8])
	return crc32.Update(c, castagnoli, record[recordHead:])
}
