package daemon

import (
	"encoding/json"
	"net/netip"
	"testing"

	"linkspan/cnm"
	"linkspan/diagnose/why"
)

// TestQuestionIsData: what hosts ask each other survives the wire, and a half fits into one
// question with the longest names.
func TestQuestionIsData(t *testing.T) {
	id := make([]byte, 64)
	for i := range id {
		id[i] = 'f'
	}
	q := why.Question{Half: &why.Half{From: string(id), Container: string(id), To: string(id), ToContainer: string(id), Network: string(id), Path: cnm.PathVXLAN, Proto: "tcp",
		Src: netip.MustParseAddr("fd00::1"), Dst: netip.MustParseAddr("fd00::2"), Port: 6379, MAC: "02:42:00:00:00:01", Most: 1450}}
	b, err := json.Marshal(q)
	var back why.Question
	if err != nil || json.Unmarshal(b, &back) != nil || *back.Half != *q.Half || len(b) > 1024 {
		t.Errorf("%d bytes, %v: %+v", len(b), err, back.Half)
	}
}

// TestNobodyAsked: a host in no mesh asks nobody, and does not understand what is no
// question.
func TestNobodyAsked(t *testing.T) {
	e := &engine{span: &span{}}
	if _, err := (neighbours{e}).Ask(t.Context(), cnm.Peer{Name: "host2"}, why.Question{Who: "c1"}); err == nil {
		t.Error("asked")
	}
	if _, err := e.asked(t.Context(), cnm.Peer{Name: "host2"}, []byte("no question")); err == nil {
		t.Error("understood")
	}
}
