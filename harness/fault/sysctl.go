package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Sysctl sets a kernel parameter ("net.ipv4.tcp_wmem") in the namespaces that
// the caller is in, and returns a function that sets it back. Arms set those of
// their own network namespace only, where they vanish with it.
func Sysctl(name, value string) (restore func() error, err error) {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
	before, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("sysctl %s: %w", name, err)
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return nil, fmt.Errorf("sysctl %s=%q: %w", name, value, err)
	}
	return func() error { return os.WriteFile(path, before, 0o644) }, nil
}
