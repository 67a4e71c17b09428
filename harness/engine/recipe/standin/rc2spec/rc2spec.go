// Package rc2spec turns the container configuration that dockerd 1.13 writes,
// runtime-spec 1.0.0-rc2, into the runtime-spec 1.0 that runc 1.x reads.
//
// It is compiled into dockerd (recipe.Dockerd1131) as a package of a go 1.16
// module; that is why it does without newer words of the language.
package rc2spec

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"strconv"
	"strings"
)

type object = map[string]interface{}

// WriteFile marshals an rc2 configuration and writes its translation.
func WriteFile(path string, rc2 interface{}) error {
	in, err := json.Marshal(rc2)
	if err != nil {
		return err
	}
	out, err := Translate(in)
	if err != nil {
		return err
	}
	return os.WriteFile(path, out, 0o666)
}

// Translate rewrites what changed between rc2 and 1.0 and keeps the rest.
func Translate(rc2 []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(rc2))
	decoder.UseNumber() // a uint64 does not survive a float64
	var spec object
	if err := decoder.Decode(&spec); err != nil {
		return nil, err
	}
	spec["ociVersion"] = "1.0.0"
	delete(spec, "platform")

	process := member(spec, "process")
	if caps, ok := process["capabilities"].([]interface{}); ok {
		// What runc of that time did with the one list.
		process["capabilities"] = object{
			"bounding": caps, "effective": caps, "inheritable": caps, "permitted": caps,
		}
	}

	resources := member(member(spec, "linux"), "resources")
	memory := member(resources, "memory")
	move(resources, "oomScoreAdj", process)
	move(resources, "disableOOMKiller", memory)
	if value, ok := memory["swappiness"].(json.Number); ok && isMinusOne(value) {
		delete(memory, "swappiness") // -1 says "as the parent has it"
	}
	// Limits were unsigned, with -1 for "none" wrapped around.
	for _, limits := range []object{memory, member(resources, "cpu")} {
		for name, value := range limits {
			if n, ok := value.(json.Number); ok && isMinusOne(n) {
				limits[name] = -1
			}
		}
	}
	blockIO := member(resources, "blockIO")
	for name := range blockIO {
		if rest := strings.TrimPrefix(name, "blkio"); rest != name && rest != "" {
			move(blockIO, name, blockIO, strings.ToLower(rest[:1])+rest[1:])
		}
	}
	return json.Marshal(spec)
}

// member returns an object inside another, made if it is missing.
func member(of object, name string) object {
	o, ok := of[name].(object)
	if !ok {
		o = object{}
		of[name] = o
	}
	return o
}

// move moves a value to another object, under a new name if one is given.
func move(from object, name string, to object, as ...string) {
	value, ok := from[name]
	if !ok {
		return
	}
	delete(from, name)
	to[append(as, name)[0]] = value
}

func isMinusOne(n json.Number) bool {
	return n.String() == strconv.FormatUint(math.MaxUint64, 10)
}
