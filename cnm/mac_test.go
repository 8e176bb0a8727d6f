package cnm

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckMAC(t *testing.T) {
	for mac, want := range map[string]string{
		"02:42:ac:11:00:02":       "",
		"00:16:3E:00:00:01":       "",
		"02-42-ac-11-00-02":       "",
		"":                        "six bytes",
		"02:42:zz":                "02:42:zz: write six bytes",
		"02:42:ac:11:00":          "six bytes",
		"02:42:ac:11:00:02:00:01": "it has 8 bytes",
		"01:00:5e:00:00:01":       "a group's",
		"ff:ff:ff:ff:ff:ff":       "a group's",
		"00:00:00:00:00:00":       "all zero",
	} {
		err := CheckMAC(mac)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", mac, err)
			}
			continue
		}
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), mac) {
			t.Errorf("%q: %v, want %q in it", mac, err, want)
		}
	}
}
