package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"regexp"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/leaklab/leaklab/harness/arm"
)

// ink is a colour as drawn and the variable that stands for it in the page.
type ink struct {
	drawn color.NRGBA
	css   string
}

var (
	inkText = ink{color.NRGBA{1, 2, 3, 255}, "var(--text)"}
	inkGrid = ink{color.NRGBA{1, 2, 4, 255}, "var(--grid)"}
	inkMark = ink{color.NRGBA{1, 2, 5, 255}, "var(--mark)"}
	kindInk = map[arm.Kind]ink{
		arm.Leak:       {color.NRGBA{1, 2, 6, 255}, "var(--leak)"},
		arm.Mitigation: {color.NRGBA{1, 2, 7, 255}, "var(--mitigation)"},
		arm.Control:    {color.NRGBA{1, 2, 8, 255}, "var(--control)"},
	}
)

// ticks are few, round, and without exponents.
func ticks(lo, hi float64) []plot.Tick {
	const most = 7
	span := hi - lo
	if span <= 0 {
		return plot.DefaultTicks{}.Ticks(lo, hi)
	}
	step := math.Pow(10, math.Floor(math.Log10(span)))
	for _, f := range []float64{0.1, 0.2, 0.5, 1, 2, 5} {
		if span/(step*f) <= most {
			step *= f
			break
		}
	}
	var marks []plot.Tick
	for v := math.Ceil(lo/step) * step; v <= hi+step*1e-9; v += step {
		if math.Abs(v) < step*1e-9 {
			v = 0
		}
		marks = append(marks, plot.Tick{Value: v, Label: tickLabel(v)})
	}
	return marks
}

func tickLabel(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= 10*unit.size {
			return fmt.Sprintf("%.4g", v/unit.size) + unit.name
		}
	}
	return fmt.Sprintf("%.4g", v)
}

var (
	svgHead   = regexp.MustCompile(`(?s)^.*?<svg[^>]*?viewBox="([^"]*)"[^>]*>`)
	svgFamily = regexp.MustCompile(`font-family:[^;"]*;?`)
)

// render turns a picture into SVG that takes its size, its colours and its font
// from the page.
func render(p *plot.Plot, width vg.Length, class, title string) (template.HTML, error) {
	c := vgsvg.New(width, plotHeight)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", err
	}
	svg := b.String()
	box := svgHead.FindStringSubmatch(svg)
	if box == nil {
		return "", fmt.Errorf("the plotting library gave no SVG")
	}
	svg = fmt.Sprintf(`<svg class="plot %s" viewBox="%s" role="img" aria-label="%s" xmlns="http://www.w3.org/2000/svg">`,
		class, box[1], template.HTMLEscapeString(title)) + svg[len(box[0]):]
	svg = svgFamily.ReplaceAllString(svg, "")
	inks := []ink{inkText, inkGrid, inkMark}
	for _, i := range kindInk {
		inks = append(inks, i)
	}
	for _, i := range inks {
		svg = strings.ReplaceAll(svg, fmt.Sprintf("#%02X%02X%02X", i.drawn.R, i.drawn.G, i.drawn.B), i.css)
	}
	return template.HTML(svg), nil
}
