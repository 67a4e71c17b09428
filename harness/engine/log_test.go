package engine

import (
	"testing"
	"time"
)

func TestParseLog(t *testing.T) {
	log := `time="2026-11-22T14:16:37.140581876Z" level=error msg="collecting stats for a7c7: sandbox 6984 not found" 
time="2026-11-22T14:16:38Z" level=warning msg=done error="exec: \"modprobe\": not found"
2026/11/22 14:16:39 http: Accept error: accept unix /s: accept4: too many open files; retrying in 5ms

panic: level=high
time="2026-11-22T14:16:40Z" level=fatal msg="cut of
`
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	want := []LogLine{
		{at("2026-11-22T14:16:37.140581876Z"), "error", "collecting stats for a7c7: sandbox 6984 not found"},
		{at("2026-11-22T14:16:38Z"), "warning", "done"},
		{Text: "2026/11/22 14:16:39 http: Accept error: accept unix /s: accept4: too many open files; retrying in 5ms"},
		{Text: "panic: level=high"},
		{at("2026-11-22T14:16:40Z"), "fatal", `"cut`},
	}
	got := ParseLog([]byte(log))
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d: %+v", len(got), len(want), got)
	}
	for i := range want {
		if !got[i].At.Equal(want[i].At) || got[i].Level != want[i].Level || got[i].Text != want[i].Text {
			t.Errorf("line %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}
