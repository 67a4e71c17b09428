package report

import (
	"fmt"
	"html/template"
	"image/color"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/leaklab/leaklab/harness/arm"
)

// The pictures are drawn by gonum/plot as SVG. It needs no script, so a report
// is one file that prints, scales and opens anywhere; the colours below are
// replaced by the page's own, so that one drawing serves light and dark. (Of
// the others, go-echarts brings a megabyte of script and draws nothing on
// paper until it has run; go-chart and charts draw no interval bands, and fix
// their colours.)

// Plot is a deciding counter over operations, all arms in one picture.
type Plot struct {
	Counter, Unit, Operation string
	// Wide is the drawing for screens and paper, Narrow the one for phones.
	Wide, Narrow template.HTML
	Legend       []LegendEntry
	// Points is the number of samples drawn; Released whether some of them are
	// after a release, and Below whether that let go of more than was counted.
	Points          int
	Released, Below bool
	// Unsettled is the number of samples taken before the counters stood still.
	Unsettled int
}

// LegendEntry names arms whose lines look alike.
type LegendEntry struct {
	Kind  arm.Kind
	Arms  []string
	Slope string
}

// glyphs tell the kinds apart without colour, and where they lie on each other.
var glyphs = map[arm.Kind]draw.GlyphStyle{
	arm.Leak:       {Radius: 3, Shape: draw.CircleGlyph{}},
	arm.Mitigation: {Radius: 3, Shape: draw.BoxGlyph{}},
	arm.Control:    {Radius: 6, Shape: draw.CrossGlyph{}},
}

const (
	plotWidth   = 540 // points; the page scales it
	plotHeight  = 280
	narrowWidth = 340
	bandShade   = 46 // opacity of an interval, of 255
)

// series is one arm's part of a picture.
type series struct {
	arm             Arm
	rounds, release plotter.XYs
	settled         []bool
	slope, lo, hi   *float64
	counter         Counter
}

// Plots draws every deciding counter of a scenario's arms.
func Plots(arms []Arm) ([]Plot, error) {
	var names []string
	for _, a := range arms {
		for _, c := range a.Counters {
			if c.Decides && !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
	}
	var plots []Plot
	for _, name := range names {
		p, err := drawCounter(name, arms)
		if err != nil {
			return nil, fmt.Errorf("drawing %s: %w", name, err)
		}
		if p.Points > 0 {
			plots = append(plots, p)
		}
	}
	return plots, nil
}

// collect gathers what each arm has sampled of a counter, as growth since its
// first sample, so that arms that started from different levels compare.
func collect(name string, arms []Arm) []series {
	var all []series
	for _, a := range arms {
		i := slices.IndexFunc(a.Counters, func(c Counter) bool { return c.Name == name && c.Decides })
		if i < 0 {
			continue
		}
		c := a.Counters[i]
		s := series{arm: a, counter: c, slope: c.Slope, lo: c.Lo, hi: c.Hi}
		base, based := 0.0, false
		for _, sample := range a.Samples {
			v, ok := sample.Counters[name]
			if !ok || sample.Phase == arm.PhaseWarmup {
				continue
			}
			if !based {
				base, based = v, true
			}
			if sample.Phase == arm.PhaseRelease {
				s.release = append(s.release, plotter.XY{Y: v - base})
				continue
			}
			s.rounds = append(s.rounds, plotter.XY{X: float64(sample.Ops), Y: v - base})
			s.settled = append(s.settled, sample.Settled)
		}
		if len(s.rounds) > 0 {
			all = append(all, s)
		}
	}
	return all
}

func drawCounter(name string, arms []Arm) (Plot, error) {
	all := collect(name, arms)
	out := Plot{Counter: name}
	if len(all) == 0 {
		return out, nil
	}
	out.Unit, out.Operation, out.Legend = all[0].counter.Unit, all[0].arm.Operation, legend(all)
	last := 0.0
	for _, s := range all {
		last = max(last, s.rounds[len(s.rounds)-1].X)
	}
	p := emptyPlot(out)
	if err := markMoment(p, all, 0, "fault on, warmed up", false); err != nil {
		return out, err
	}
	// Where nothing leaks the line must not hide those that do: last on top.
	slices.SortStableFunc(all, func(a, b series) int { return rank(b.arm.Kind) - rank(a.arm.Kind) })
	for _, s := range all {
		if err := drawSeries(p, s, last, &out); err != nil {
			return out, err
		}
	}
	if out.Released {
		if err := markMoment(p, all, last*1.06, "release", true); err != nil {
			return out, err
		}
		p.X.Max = last * 1.16
	}
	p.X.Min = 0
	title := fmt.Sprintf("%s over operations", name)
	var err error
	if out.Wide, err = render(p, plotWidth, "wide", title); err != nil {
		return out, err
	}
	out.Narrow, err = render(p, narrowWidth, "narrow", title)
	return out, err
}

func rank(k arm.Kind) int {
	return slices.Index([]arm.Kind{arm.Leak, arm.Mitigation, arm.Control}, k)
}

func emptyPlot(out Plot) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	p.X.Label.Text = "operations (" + out.Operation + ")"
	p.Y.Label.Text = out.Unit + " left behind"
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Label.TextStyle.Color = inkText.drawn, inkText.drawn
		axis.Tick.Color, axis.Tick.Label.Color = inkText.drawn, inkText.drawn
		axis.Tick.Label.Font.Size, axis.Label.TextStyle.Font.Size = 10, 11
		axis.Tick.Marker = plot.TickerFunc(ticks)
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = inkGrid.drawn, inkGrid.drawn
	p.Add(grid)
	return p
}

// drawSeries draws an arm: interval, fit, samples, and what a release left.
func drawSeries(p *plot.Plot, s series, last float64, out *Plot) error {
	col := kindInk[s.arm.Kind].drawn
	x, y := centre(s.rounds)
	end := s.rounds[len(s.rounds)-1].X
	if s.lo != nil && s.hi != nil && end > 0 {
		band, err := plotter.NewPolygon(plotter.XYs{
			{X: 0, Y: y - *s.lo*x}, {X: end, Y: y + *s.hi*(end-x)},
			{X: end, Y: y + *s.lo*(end-x)}, {X: 0, Y: y - *s.hi*x},
		})
		if err != nil {
			return err
		}
		shade := col
		shade.A = bandShade
		band.Color, band.LineStyle.Width = shade, 0
		p.Add(band)
	}
	if s.slope != nil && end > 0 {
		fit, err := plotter.NewLine(plotter.XYs{{X: 0, Y: y - *s.slope*x}, {X: end, Y: y + *s.slope*(end-x)}})
		if err != nil {
			return err
		}
		fit.Color, fit.Width = col, 1.4
		p.Add(fit)
	}
	points, err := plotter.NewScatter(s.rounds)
	if err != nil {
		return err
	}
	points.GlyphStyleFunc = func(i int) draw.GlyphStyle {
		style := glyphs[s.arm.Kind]
		style.Color = col
		if !s.settled[i] {
			style.Shape = draw.RingGlyph{}
		}
		return style
	}
	p.Add(points)
	out.Points += len(s.rounds)
	for _, settled := range s.settled {
		if !settled {
			out.Unsettled++
		}
	}
	if len(s.release) == 0 {
		return nil
	}
	out.Released = true
	drop := plotter.XYs{s.rounds[len(s.rounds)-1]}
	for i := range s.release {
		s.release[i].X = last * (1.06 + 0.06*float64(i+1)/float64(len(s.release)))
		drop = append(drop, s.release[i])
		out.Below = out.Below || s.release[i].Y < 0
	}
	fall, err := plotter.NewLine(drop)
	if err != nil {
		return err
	}
	fall.Color, fall.Width, fall.Dashes = col, 1, []vg.Length{3, 3}
	left, err := plotter.NewScatter(s.release)
	if err != nil {
		return err
	}
	left.GlyphStyle = draw.GlyphStyle{Color: col, Radius: 4, Shape: draw.PyramidGlyph{}}
	p.Add(fall, left)
	out.Points += len(s.release)
	return nil
}

// centre is the point through which the robust fit goes: the medians.
func centre(points plotter.XYs) (x, y float64) {
	var xs, ys []float64
	for _, p := range points {
		xs, ys = append(xs, p.X), append(ys, p.Y)
	}
	slices.Sort(xs)
	slices.Sort(ys)
	return stat.Quantile(0.5, stat.Empirical, xs, nil), stat.Quantile(0.5, stat.Empirical, ys, nil)
}

// markMoment draws an upright line with a word at its head.
func markMoment(p *plot.Plot, all []series, x float64, word string, before bool) error {
	top, bottom := 0.0, 0.0
	for _, s := range all {
		for _, pt := range append(slices.Clone(s.rounds), s.release...) {
			top, bottom = max(top, pt.Y), min(bottom, pt.Y)
		}
	}
	if top == bottom {
		top = bottom + 1
	}
	top += (top - bottom) * 0.12
	line, err := plotter.NewLine(plotter.XYs{{X: x, Y: bottom}, {X: x, Y: top}})
	if err != nil {
		return err
	}
	line.Color, line.Width, line.Dashes = inkMark.drawn, 1, []vg.Length{2, 3}
	label, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: top}}, Labels: []string{word}})
	if err != nil {
		return err
	}
	label.TextStyle[0].Color, label.TextStyle[0].Font.Size, label.TextStyle[0].YAlign = inkMark.drawn, 10, text.YTop
	label.Offset.X = 4
	if before {
		label.TextStyle[0].XAlign, label.Offset.X = text.XRight, -12
	}
	p.Add(line, label)
	return nil
}

// legend joins arms of a kind with the same slope.
func legend(all []series) []LegendEntry {
	var entries []LegendEntry
	for _, s := range all {
		slope := s.counter.String() + " " + s.counter.Unit + "/op"
		i := slices.IndexFunc(entries, func(e LegendEntry) bool { return e.Kind == s.arm.Kind && e.Slope == slope })
		if i < 0 {
			entries = append(entries, LegendEntry{Kind: s.arm.Kind, Slope: slope})
			i = len(entries) - 1
		}
		entries[i].Arms = append(entries[i].Arms, s.arm.Arm)
	}
	return entries
}
