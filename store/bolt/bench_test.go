package bolt

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"linkspan/store"
)

// BenchmarkCommit: a sandbox of 1.5 kB is written as a container start does it.
// "together" is how many callers commit at the same time; ns/op is per commit.
func BenchmarkCommit(b *testing.B) {
	value := bytes.Repeat([]byte{'v'}, 1500)
	for _, stored := range []int{0, 10_000} {
		for _, together := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("stored=%d/together=%d", stored, together), func(b *testing.B) {
				s := open(b, filepath.Join(b.TempDir(), "state.db"), Options{})
				var ops []store.Op
				for i := range stored {
					ops = append(ops, store.Op{Key: fmt.Sprintf("sandboxes/%08d", i), Value: value})
				}
				commit(b, s, ops...)
				var n atomic.Int64
				b.SetParallelism((together + 1) / 2) // of GOMAXPROCS goroutines, 2 here
				if together == 1 {
					b.ResetTimer()
					for i := range b.N {
						commit(b, s, store.Op{Key: fmt.Sprint("sandboxes/x", i%100), Value: value})
					}
					return
				}
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						commit(b, s, store.Op{Key: fmt.Sprint("sandboxes/x", n.Add(1)%100), Value: value})
					}
				})
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "state.db"), Options{})
	for i := range 1000 {
		commit(b, s, store.Op{Key: fmt.Sprint("k/", i), Value: bytes.Repeat([]byte{'v'}, 1500)})
	}
	for b.Loop() {
		if _, ok, err := s.Get(context.Background(), "k/500"); !ok || err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state.db")
	s := open(b, path, Options{})
	var ops []store.Op
	for i := range 10_000 {
		ops = append(ops, store.Op{Key: fmt.Sprint("k/", i), Value: bytes.Repeat([]byte{'v'}, 1500)})
	}
	commit(b, s, ops...)
	_ = s.Close()
	for b.Loop() {
		s, err := Open(path, Options{CopyEvery: -1})
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}
