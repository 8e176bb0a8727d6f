package dataplane

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"strings"
)

//go:embed page.nft
var pageText string

// BasePage is Linkspan's firewall page for the table of that name (family inet):
// the same text for every host, so that a person who has read it once knows it.
func BasePage(table string) Page {
	sum := sha256.Sum256([]byte(pageText))
	hash := hex.EncodeToString(sum[:4])
	text := strings.NewReplacer("TABLE", table, "HASH", hash).Replace(pageText)
	return Page{
		Meta:   Meta{Owner{Kind: OwnerHost}, "the firewall: a constant number of rules, everything else is set elements"},
		Family: "inet", Table: table, Text: text, Hash: hash,
	}
}
