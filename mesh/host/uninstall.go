package host

import (
	"errors"
	"fmt"
	"os"
)

// Removed takes away what a data root has of a mesh, without telling the others: what
// `linkspan uninstall` does. was is which mesh it was in; empty: none.
func Removed(dataRoot string) (was string, err error) {
	f := folder{path: Folder(dataRoot)}
	if s, err := f.load(); err == nil && s != nil {
		was = fmt.Sprintf("mesh %s, as host %s", s.Mesh, s.Name)
	}
	return was, errors.Join(os.RemoveAll(f.path), os.RemoveAll(f.staging().path), os.RemoveAll(f.removal()))
}
