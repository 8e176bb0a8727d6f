// Package deps holds the tests that keep the house in order: who may import
// whom, how long a file may be, what must not be in the text. The rules are
// those of docs/design.md; each carries its reason, which is printed when it is
// broken.
package deps
