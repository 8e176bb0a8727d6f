package host

// Host is this host in the mesh.
type Host struct{}
