package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Load reads a results' folder.
func Load(dir string) (Run, error) {
	path := filepath.Join(dir, "result.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return Run{}, fmt.Errorf("no result: %w", err)
	}
	var r Run
	if err := json.Unmarshal(text, &r); err != nil {
		return Run{}, fmt.Errorf("%s: %w", path, err)
	}
	if r.Schema != Schema {
		return Run{}, fmt.Errorf("%s has schema %d, this leaklab reads %d", path, r.Schema, Schema)
	}
	r.Out = dir
	return r, nil
}
