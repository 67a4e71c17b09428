package rc2spec

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestTranslate(t *testing.T) {
	tests := map[string]struct{ rc2, want string }{
		"capabilities become four sets": {
			rc2: `{"process": {"args": ["/x"], "capabilities": ["CAP_KILL"]}}`,
			want: `{"process": {"args": ["/x"], "capabilities": {"bounding": ["CAP_KILL"],
				"effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "permitted": ["CAP_KILL"]}}}`,
		},
		"the platform is gone": {
			rc2:  `{"ociVersion": "1.0.0-rc2-dev", "platform": {"os": "linux", "arch": "amd64"}}`,
			want: `{}`,
		},
		"out-of-memory settings moved": {
			rc2: `{"linux": {"resources": {"oomScoreAdj": 5, "disableOOMKiller": true, "memory": {"limit": 4096}}}}`,
			want: `{"process": {"oomScoreAdj": 5},
				"linux": {"resources": {"memory": {"limit": 4096, "disableOOMKiller": true}}}}`,
		},
		"minus one": {
			rc2: `{"linux": {"resources": {
				"memory": {"swap": 18446744073709551615, "swappiness": 18446744073709551615},
				"cpu": {"quota": 18446744073709551615, "shares": 9007199254740993}}}}`,
			want: `{"linux": {"resources": {"memory": {"swap": -1}, "cpu": {"quota": -1, "shares": 9007199254740993}}}}`,
		},
		"block I/O without prefix": {
			rc2:  `{"linux": {"resources": {"blockIO": {"blkioWeight": 0, "blkioThrottleReadBpsDevice": [{"rate": 1}]}}}}`,
			want: `{"linux": {"resources": {"blockIO": {"weight": 0, "throttleReadBpsDevice": [{"rate": 1}]}}}}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out, err := Translate([]byte(tt.rc2))
			if err != nil {
				t.Fatal(err)
			}
			got, want := parse(t, out), parse(t, []byte(tt.want))
			if got["ociVersion"] != "1.0.0" {
				t.Errorf("ociVersion is %v", got["ociVersion"])
			}
			delete(got, "ociVersion")
			if prune(got); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
		})
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := WriteFile(path, struct {
		Hostname string `json:"hostname"`
	}{"h1"}); err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := parse(t, out); got["hostname"] != "h1" {
		t.Errorf("wrote %s", out)
	}
	if _, err := Translate([]byte("[]")); err == nil {
		t.Error("a list was taken for a configuration")
	}
}

// prune drops empty objects, which say nothing.
func prune(o object) {
	for name, value := range o {
		if inner, ok := value.(object); ok {
			if prune(inner); len(inner) == 0 {
				delete(o, name)
			}
		}
	}
}

func parse(t *testing.T, text []byte) object {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var o object
	if err := decoder.Decode(&o); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}
