package probe

import "testing"

func TestParseMemory(t *testing.T) {
	const profile = "heap profile: 1: 2 [3: 4] @ heap/1048576\n\n# runtime.MemStats\n# Alloc = 7\n# HeapInuse = 1000\n# Stack = 24 / 4096\n"
	got, err := parseMemory([]byte(profile))
	if err != nil || got != 1024 {
		t.Errorf("got %v, %v; want 1024", got, err)
	}
	if _, err := parseMemory([]byte("heap profile: 1: 2\n")); err == nil {
		t.Error("a profile without the figures was taken")
	}
}
