package report

import (
	"fmt"
	"html/template"
	"path"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// Flame is a flame graph of what grew: as wide as the growth, callers above
// callees. There is no Go library that draws one as a file of its own, and it
// is little more than nested boxes, so that is what this makes.
type Flame struct {
	Width, Height int
	Boxes         []FlameBox
	Unit          string
}

// FlameBox is one function at one place of the graph.
type FlameBox struct {
	X, Y, W    float64
	Label      string
	Title      string
	Documented bool
}

const (
	flameWidth  = 960
	flameRow    = 19
	flameNarrow = 1.5 // narrower boxes are left out
	flameLetter = 6.4 // width of one letter
)

// node is a function called in one way.
type node struct {
	name     string
	value    int64
	children map[string]*node
}

func (n *node) child(name string) *node {
	if n.children == nil {
		n.children = map[string]*node{}
	}
	c := n.children[name]
	if c == nil {
		c = &node{name: name}
		n.children[name] = c
	}
	return c
}

// NewFlame draws one kind of value of a difference of profiles; what shrank is
// left out.
func NewFlame(diff []byte, kind string, frames []string) (Flame, error) {
	p, err := profile.ParseData(diff)
	if err != nil {
		return Flame{}, fmt.Errorf("profile: %w", err)
	}
	i := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == kind })
	if i < 0 {
		return Flame{}, fmt.Errorf("profile: it has no %s", kind)
	}
	root := &node{name: "all that grew"}
	depth := 1
	for _, s := range p.Sample {
		if s.Value[i] <= 0 {
			continue
		}
		n, d := root, 1
		n.value += s.Value[i]
		for l := len(s.Location) - 1; l >= 0; l-- {
			for k := len(s.Location[l].Line) - 1; k >= 0; k-- {
				n = n.child(s.Location[l].Line[k].Function.Name)
				n.value += s.Value[i]
				d++
			}
		}
		depth = max(depth, d)
	}
	f := Flame{Width: flameWidth, Height: depth * flameRow, Unit: p.SampleType[i].Unit}
	if kind == "goroutine" {
		f.Unit = "goroutines"
	}
	if root.value == 0 {
		return Flame{}, nil
	}
	f.draw(root, 0, 0, flameWidth/float64(root.value), root.value, frames)
	return f, nil
}

func (f *Flame) draw(n *node, x float64, row int, scale float64, total int64, frames []string) {
	w := float64(n.value) * scale
	if w < flameNarrow {
		return
	}
	label := path.Base(n.name)
	if room := int((w - 6) / flameLetter); room < 3 {
		label = ""
	} else if letters := []rune(label); room < len(letters) {
		label = string(letters[:room-1]) + "…"
	}
	f.Boxes = append(f.Boxes, FlameBox{
		X: x, Y: float64(row * flameRow), W: w, Label: label, Documented: isDocumented(n.name, frames),
		Title: fmt.Sprintf("%s: %d %s, %.1f %%", n.name, n.value, f.Unit, 100*float64(n.value)/float64(total)),
	})
	children := make([]*node, 0, len(n.children))
	for _, c := range n.children {
		children = append(children, c)
	}
	slices.SortFunc(children, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	for _, c := range children {
		f.draw(c, x, row+1, scale, total, frames)
		x += float64(c.value) * scale
	}
}

var flameTemplate = template.Must(template.New("flame").Parse(
	`<svg class="flame" viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-label="flame graph of what grew" xmlns="http://www.w3.org/2000/svg">
{{range .Boxes}}<g{{if .Documented}} class="documented"{{end}}><title>{{.Title}}</title><rect x="{{printf "%.1f" .X}}" y="{{.Y}}" width="{{printf "%.1f" .W}}" height="18" rx="2"/><text x="{{printf "%.1f" .X}}" dx="4" y="{{.Y}}" dy="13">{{.Label}}</text></g>
{{end}}</svg>`))

// SVG is the graph as it goes into the report; its colours are the page's.
func (f Flame) SVG() (template.HTML, error) {
	if len(f.Boxes) == 0 {
		return "", nil
	}
	var b strings.Builder
	err := flameTemplate.Execute(&b, f)
	return template.HTML(b.String()), err
}
