package config

// Setting tells of one directive, for documentation.
type Setting struct {
	// Flag is without dashes; Key is the file's. One of them can be empty.
	Flag, Key string
	// Verdict is "works", "accepted" or "refused".
	Verdict string
	// Words say what it does, what happens instead, or why it is refused.
	Words string
	// Reload: SIGHUP takes a change of the file over.
	Reload bool
}

// Settings are all directives, in the order of the help.
func Settings() []Setting {
	var out []Setting
	for _, d := range directives() {
		s := Setting{Flag: d.flag, Key: d.key, Words: d.help, Reload: d.reload}
		switch d.class {
		case works:
			s.Verdict = "works"
		case noted:
			s.Verdict, s.Words = "accepted", d.note
		case refused:
			s.Verdict, s.Words = "refused", "not yet: "+d.note
		}
		out = append(out, s)
	}
	return out
}
