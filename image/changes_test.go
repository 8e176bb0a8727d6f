package image

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"linkspan/cnm"
)

func TestChanges(t *testing.T) {
	for in, want := range map[string]string{
		`CMD echo hi`:                             `{"Cmd":["/bin/sh","-c","echo hi"]}`,
		`cmd ["a","b c"]`:                         `{"Cmd":["a","b c"]}`,
		`ENTRYPOINT ["/init"]`:                    `{"Entrypoint":["/init"]}`,
		`USER 1000:1000`:                          `{"User":"1000:1000"}`,
		"WORKDIR /a\nWORKDIR b/../c":              `{"WorkingDir":"/a/c"}`,
		`STOPSIGNAL SIGQUIT`:                      `{"StopSignal":"SIGQUIT"}`,
		`ONBUILD RUN make`:                        `{"OnBuild":["RUN make"]}`,
		`ENV A=1 B="two words" C=x\ y`:            `{"Env":["A=1","B=two words","C=x y"]}`,
		"ENV A=1\n# a comment\n\nENV A two words": `{"Env":["A=two words"]}`,
		`LABEL a=b "c d"='e f'`:                   `{"Labels":{"a":"b","c d":"e f"}}`,
		`EXPOSE 80 53/UDP 8000-8002/sctp`:         `{"ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/sctp":{},"8001/sctp":{},"8002/sctp":{}}}`,
		`VOLUME ["/a b","/c"]`:                    `{"Volumes":{"/a b":{},"/c":{}}}`,
		`VOLUME /a /b`:                            `{"Volumes":{"/a":{},"/b":{}}}`,
		`HEALTHCHECK NONE`:                        `{"Healthcheck":{"Test":["NONE"]}}`,
		`HEALTHCHECK --interval=5s --retries=3 CMD curl -f http://localhost/`: `{"Healthcheck":{"Test":["CMD-SHELL","curl -f http://localhost/"],"Interval":5000000000,"Retries":3}}`,
		`HEALTHCHECK CMD ["a","b"]`: `{"Healthcheck":{"Test":["CMD","a","b"]}}`,
	} {
		var got config
		if err := applyChanges(&got, []string{in}); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		b, _ := json.Marshal(got)
		var a, c any
		_ = json.Unmarshal(b, &a)
		_ = json.Unmarshal([]byte(want), &c)
		if !reflect.DeepEqual(a, c) {
			t.Errorf("%s:\n got %s\nwant %s", in, b, want)
		}
	}
	for in, words := range map[string]string{
		"RUN x": "RUN is not a valid change command", "MAINTAINER me": "not a valid change command", "CMD": "requires at least one argument",
		"ENV": "requires at least one argument", "ENV A": "must be KEY=value", "ENV A=1 B": `"B" must be KEY=value`, "LABEL a='b": "looking for matching '",
		"EXPOSE 0": "invalid containerPort: 0", "EXPOSE 70000": "invalid containerPort", "EXPOSE 80/icmp": "invalid proto: icmp", "EXPOSE 9-8": "invalid containerPort",
		"HEALTHCHECK maybe": "HEALTHCHECK takes", "HEALTHCHECK --often=1 CMD x": "unknown flag: --often", "HEALTHCHECK --timeout=x CMD y": "invalid duration",
		"VOLUME [\"\"]": "can not be an empty string", "ENV =x": "must be KEY=value",
	} {
		if err := applyChanges(&config{}, []string{in}); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func FuzzChanges(f *testing.F) {
	for _, s := range []string{"CMD x", `ENV a="b\" c" d`, "EXPOSE 1-2/udp", "HEALTHCHECK --interval=1s CMD [\"x\"]", "LABEL 'a'=\\", "VOLUME [\"x\"", "WORKDIR ../.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var c config
		if err := applyChanges(&c, []string{in}); err != nil {
			if !errors.Is(err, cnm.ErrInvalid) {
				t.Errorf("%q: %v has no class", in, err)
			}
			return
		}
		if c.WorkingDir != "" && c.WorkingDir[0] != '/' {
			t.Errorf("%q: working dir %q", in, c.WorkingDir)
		}
	})
}
