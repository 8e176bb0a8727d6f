package ruleset

func (w *walker) lookup(c *Chain, x Lookup) result {
	s := c.set(x.Set)
	if s == nil {
		return w.unsure("there is no set " + x.Set)
	}
	key, known := w.load(x.From, s.KeyLen)
	if !known {
		return w.unsure("it looks up in " + x.Set + " what cannot be known beforehand")
	}
	e, found := s.Find(key)
	if found == x.Not {
		return mismatch
	}
	if s.Map && x.Data && found {
		if e.Verdict != nil {
			return result{verdict: e.Verdict}
		}
		w.store(x.To, e.Data)
	}
	return match
}

func (c *Chain) set(name string) *Set {
	if c.table == nil {
		return nil
	}
	return c.table.Set(name)
}

// dynset adds from the packet path; what limits an element are its expressions.
func (w *walker) dynset(c *Chain, x Dynset) result {
	for _, e := range x.Exprs {
		if r := w.eval(c, e); r.no || r.verdict != nil {
			return r
		}
	}
	if x.Not {
		return mismatch // only a full set would match
	}
	return match
}

func (w *walker) objref(c *Chain, x ObjRef) result {
	name := x.Name
	if x.Set != "" {
		s := c.set(x.Set)
		if s == nil {
			return w.unsure("there is no map " + x.Set)
		}
		key, known := w.load(x.From, s.KeyLen)
		if !known {
			return w.unsure("it looks up in " + x.Set + " what cannot be known beforehand")
		}
		e, found := s.Find(key)
		if !found {
			return mismatch
		}
		name = e.Object
	}
	var o *Object
	if c.table != nil {
		o = c.table.object(name)
	}
	switch {
	case o == nil:
		return match
	case o.Type == "limit" || o.Type == "connlimit":
		return w.assume(o.Over, "the limit "+name)
	case o.Type == "quota":
		return w.unsure("it depends on the quota " + name)
	case o.Type == "synproxy":
		return result{fatal: "the rule answers connections itself (synproxy)"}
	}
	return match
}
