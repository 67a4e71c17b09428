package probe

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestSocketOwners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own, err := SocketInodes(os.Getpid())
	if err != nil || len(own) == 0 {
		t.Fatal(own, err)
	}
	owners, err := SocketOwners()
	if err != nil {
		t.Fatal(err)
	}
	for _, inode := range own {
		if o := owners[inode]; o.PID == os.Getpid() && o.Name != "" {
			return
		}
	}
	t.Errorf("none of the sockets %v is known to be ours", own)
}
