package recipe

import (
	"slices"
	"strings"
	"testing"
)

func TestFamiliesServeTheirVersions(t *testing.T) {
	for _, f := range Families {
		for _, v := range f.Versions {
			r, err := f.Recipe(v)
			if err != nil {
				t.Errorf("%s@%s: %v", f.Name, v, err)
			} else if r.Ref() != f.Name+"@"+v {
				t.Errorf("%s@%s makes %s", f.Name, v, r.Ref())
			}
		}
	}
}

func TestUnknownVersionSaysWhatThereIs(t *testing.T) {
	_, err := Families.Recipe("dockerd@17.05")
	if err == nil || !strings.Contains(err.Error(), "1.13.1") {
		t.Errorf("error %v", err)
	}
}

func TestCompareVersions(t *testing.T) {
	want := []string{"1.13.1", "17.05", "18.09", "18.09-kill-timeout", "20.10.24"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareVersions)
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
