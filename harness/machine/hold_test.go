package machine

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A clean-up must leave alone what a living guardian holds, wherever the
// clean-up looks for run folders.
func TestHold(t *testing.T) {
	dir := t.TempDir()
	if held(dir) {
		t.Error("held by nobody")
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	h := hold{f}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if !held(dir) {
		t.Error("not held although it is locked")
	}
	h.release()
	if held(dir) {
		t.Error("held after its release")
	}
	if held(dir + "/gone") {
		t.Error("what is gone is held")
	}
}
