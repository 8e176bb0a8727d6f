package container

import "testing"

// A whole life without a real network: what of it is the engine's is this less
// the shim's and the runtime's time, which containerd itself takes.
func BenchmarkLife(b *testing.B) {
	w := newWorld(b)
	e := w.start()
	ctx := b.Context()
	for b.Loop() {
		id, _, err := e.Create(ctx, request("", "sleep 1000"))
		if err == nil {
			err = e.Start(ctx, id)
		}
		if err == nil {
			err = e.Remove(ctx, id, RemoveOptions{Force: true})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// What the engine itself takes for a connect and a disconnect, with a network and
// a store that take no time.
func BenchmarkConnect(b *testing.B) {
	w := newWorld(b)
	w.shops()
	e := w.start()
	id := w.run("c1", "sleep 1000")
	for b.Loop() {
		if err := e.Connect(b.Context(), id, "shop", nil); err != nil {
			b.Fatal(err)
		}
		if err := e.Disconnect(b.Context(), id, "shop", false); err != nil {
			b.Fatal(err)
		}
	}
	w.clean()
}
