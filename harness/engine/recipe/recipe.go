// Package recipe says how the real container engines are built or unpacked.
package recipe

import (
	"embed"
	"fmt"
)

//go:embed pins
var pinned embed.FS

// pins returns the go.mod and go.sum that pin a build.
func pins(name string) (mod, sum string) {
	read := func(file string) string {
		text, err := pinned.ReadFile("pins/" + name + "/" + file)
		if err != nil {
			panic(fmt.Sprintf("pins of %s: %v", name, err)) // embedded with the binary
		}
		return string(text)
	}
	return read("go.mod.txt"), read("go.sum.txt")
}
