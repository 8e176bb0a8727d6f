package ruleset

func (w *walker) xtMatch(x Match) result {
	return w.unsure("the iptables match " + x.Name + " is not known")
}
func (w *walker) xtTarget(x Target) result {
	return result{fatal: "the iptables target " + x.Name + " is not known"}
}
func (x Match) text() string  { return "-m " + x.Name }
func (x Target) text() string { return "-j " + x.Name }
