package container

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"regexp"
	"strings"

	"linkspan/cnm"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// newID returns 64 hex digits whose first twelve, the short id that people type,
// are no number: it would be taken for one (as a host name, in YAML).
func newID() string {
	for {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		id := hex.EncodeToString(b[:])
		if strings.Trim(id[:12], "0123456789") != "" {
			return id
		}
	}
}

func isID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func shortID(id string) string { return id[:12] }

// The halves of a name that nobody chose: a sea word and a harbour.
var (
	manners = strings.Fields("able bold brave brisk calm clear eager fair fast fresh gentle glad grand great hardy keen kind level light lively lucky merry mighty mild neat noble patient plain prompt proud quick quiet rapid ready rising salty sharp shining silent smooth snug sober stately steady still stout strong sturdy sunny swift tidy tranquil trim true trusty warm wary windy wise")
	ports   = strings.Fields("aalborg alexandria algiers amsterdam ancona antwerp athens bandar barcelona batumi beirut bergen bilbao bordeaux boston bremen bristol brindisi busan cadiz calais callao cardiff chennai cork cebu dakar dalian danzig darwin dover dublin durban emden esbjerg funchal galway genoa ghent goa hamburg havana helsinki hobart honolulu izmir jakarta kiel kobe kochi lagos larnaca lima lisbon liverpool lome luanda lubeck malaga malmo manila marseille mombasa montevideo mumbai nagoya nantes naples narvik odessa oporto osaka oslo ostend palermo panama patras piraeus porto qingdao quebec ravenna riga rostock rotterdam santos seattle sydney tallinn tangier tarragona trieste tunis turku valencia varna venice vigo yokohama zadar")
)

// claim takes a name for an id, or one that nobody chose if name is empty.
func (e *Engine) claim(name, id string) (string, error) {
	name = strings.TrimPrefix(name, "/")
	if name != "" && !validName.MatchString(name) {
		return "", cnm.Invalid("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if name == "" {
		for i := 0; name == ""; i++ {
			n := manners[mathrand.IntN(len(manners))] + "_" + ports[mathrand.IntN(len(ports))]
			if i > 5 {
				n = fmt.Sprintf("%s%d", n, mathrand.IntN(10*i))
			}
			if _, taken := e.names[n]; !taken {
				name = n
			}
		}
	}
	if holder, taken := e.names[name]; taken {
		return "", cnm.Conflict("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, holder)
	}
	e.names[name] = id
	return name, nil
}

// unclaim gives a name back, if id still has it.
func (e *Engine) unclaim(name, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.names[name] == id {
		delete(e.names, name)
	}
}
