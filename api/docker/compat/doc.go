// Package compat holds docs/compatibility.md to the truth: its test calls every
// endpoint of the Engine API, and tries every option of networks, against a real
// daemon, and compares the answers with the page. `go test -update` writes it.
package compat
