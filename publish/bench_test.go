package publish

import (
	"fmt"
	"testing"
)

// BenchmarkFromBindings is on the path of every docker create.
func BenchmarkFromBindings(b *testing.B) {
	for _, n := range []int{1, 1000, 65535} {
		var list []Binding
		for p := 1; p <= n; p++ {
			list = append(list, Binding{ContainerPort: fmt.Sprint(p, "/tcp"), HostPort: fmt.Sprint(p)})
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if r, err := FromBindings(nil, list, false); err != nil || len(r) != 1 {
					b.Fatal(len(r), err)
				}
			}
		})
	}
	b.Run("-P of all", func(b *testing.B) {
		for b.Loop() {
			if r, err := FromBindings([]string{"1-65535/tcp"}, nil, true); err != nil || len(r) != 1 {
				b.Fatal(len(r), err)
			}
		}
	})
}
