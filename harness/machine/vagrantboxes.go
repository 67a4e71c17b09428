package machine

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/leaklab/leaklab/harness/arm"
)

// versionsFile describes the boxes, for the Vagrantfiles and for us.
const versionsFile = "versions.yml"

// box is what there is to know of a box to choose it. The rest of its
// description is for its Vagrantfile.
type box struct {
	// Name is its folder's.
	Name string `yaml:"-"`
	// Kernel is its kernel's series.
	Kernel string `yaml:"kernel"`
	// KernelArms says that it takes the arms that are about its kernel and no
	// others.
	KernelArms bool `yaml:"kernel_arms"`
	// Subjects are patterns of the runtimes whose arms it takes.
	Subjects []string `yaml:"subjects"`
	// Own are runtimes that it has from its own packages.
	Own []string `yaml:"own"`
}

// boxes are in the order in which they are asked.
type boxes []box

// readBoxes reads the boxes' description.
func readBoxes(file string) (boxes, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	// A node keeps the order.
	var doc struct {
		Boxes yaml.Node `yaml:"boxes"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var bs boxes
	for i := 0; i+1 < len(doc.Boxes.Content); i += 2 {
		b := box{}
		if err := doc.Boxes.Content[i+1].Decode(&b); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		b.Name = doc.Boxes.Content[i].Value
		bs = append(bs, b)
	}
	if len(bs) == 0 {
		return nil, fmt.Errorf("%s has no boxes", file)
	}
	return bs, nil
}

// forArm is the box that was asked for, or the first that takes the arm.
func (bs boxes) forArm(a arm.Arm, asked string) (box, error) {
	if a.VM.CgroupV2 {
		return box{}, errors.New("is about cgroup v2, and the boxes have v1: use --machine vm")
	}
	if asked == "" {
		if i := slices.IndexFunc(bs, func(b box) bool { return b.takes(a) }); i >= 0 {
			return bs[i], nil
		}
		return box{}, fmt.Errorf("no box has a kernel %s: use --machine vm", a.VM.Kernel)
	}
	i := slices.IndexFunc(bs, func(b box) bool { return b.Name == asked })
	if i < 0 {
		return box{}, fmt.Errorf("there is no box %q, there are %s", asked, strings.Join(bs.names(), ", "))
	}
	if k := a.VM.Kernel; k != "" && k != bs[i].Kernel {
		return box{}, fmt.Errorf("is about kernel %s, the box %s has %s", k, asked, bs[i].Kernel)
	}
	return bs[i], nil
}

func (bs boxes) names() []string {
	var names []string
	for _, b := range bs {
		names = append(names, b.Name)
	}
	return names
}

func (b box) takes(a arm.Arm) bool {
	if a.VM.Kernel != "" && a.VM.Kernel != b.Kernel {
		return false
	}
	if b.KernelArms {
		return a.VM.Kernel != ""
	}
	return slices.Contains(b.Subjects, "*") || slices.ContainsFunc(a.Runtimes, b.isSubject)
}

// isSubject reports whether a "name@version" is one of the box's subjects.
func (b box) isSubject(ref string) bool {
	return slices.ContainsFunc(b.Subjects, func(pattern string) bool {
		ok, err := path.Match(pattern, ref)
		return err == nil && ok
	})
}

// hasOwn reports whether the box's own packages have the runtime whose cache
// entry is in dir: of that name and one of the box's versions.
func (b box) hasOwn(name, dir string) bool {
	entry := filepath.Base(dir)
	digest := strings.LastIndexByte(entry, '-')
	return slices.Contains(b.Own, name) && digest > 0 && b.isSubject(entry[:digest])
}
