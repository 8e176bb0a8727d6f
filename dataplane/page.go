package dataplane

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

//go:embed page.nft
var pageText string

// Mark is a packet mark under a mask (--bridge-accept-fwmark). The zero Mark is none.
type Mark struct{ Value, Mask uint32 }

// BasePage is Linkspan's firewall page for the table of that name (family inet):
// the same text for every host, so that a person who has read it once knows it.
// Packets that carry one of the marks are let in to containers.
func BasePage(table string, accept ...Mark) Page {
	rules := ""
	for _, m := range accept {
		if m != (Mark{}) {
			rules += fmt.Sprintf("meta mark and 0x%08x == 0x%08x accept comment \"--bridge-accept-fwmark\"\n\t\t", m.Mask, m.Value)
		}
	}
	text := strings.Replace(pageText, "ACCEPTMARK\n\t\t", rules, 1)
	return page(table, "inet", text, "the firewall: a constant number of rules, everything else is set elements")
}

var (
	meshSet  = regexp.MustCompile(`(?m)^\t(?:map mesh[46]|set vnis(?:_secure)?) \{\n(?:\t\t.*\n)*\t\}\n`)
	meshRule = regexp.MustCompile(`(?m)^\t\t.*(?:@mesh[46]|@vnis|set rt mtu).*\n`)
)

// Single is the page for a kernel (before Linux 5.6) or an nft program (before 0.9.4)
// that does not know what networks that span hosts need: all else is the same, and so
// is its name.
func (o Page) Single() Page {
	o.Text = meshRule.ReplaceAllString(meshSet.ReplaceAllString(o.Text, ""), "")
	return o
}

// Spanning says that an element is of a set that Single leaves out.
func (o Element) Spanning() bool {
	return strings.HasPrefix(o.Set, "mesh") || strings.HasPrefix(o.Set, "vnis")
}

//go:embed tunnels.nft
var tunnelText string

// TunnelPage is the page for bridges that have tunnels as ports (family bridge); see
// TunnelElement. A host without such a network needs none.
func TunnelPage(table string) Page {
	return page(table, "bridge", tunnelText, "who has which address is not asked through tunnels")
}

func page(table, family, text, reason string) Page {
	sum := sha256.Sum256([]byte(text))
	hash := hex.EncodeToString(sum[:4])
	daemons, people := DropGroups(table)
	text = strings.NewReplacer("TABLE", table, "HASH", hash, "GROUP", strconv.Itoa(int(daemons)), "PEOPLE", strconv.Itoa(int(people))).Replace(text)
	return Page{Meta: Meta{Owner{Kind: OwnerHost}, reason}, Family: family, Table: table, Text: text, Hash: hash}
}
