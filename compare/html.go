package compare

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// HTML writes the report as one page that needs nothing but itself: the table, and
// for each task scores, scores by size, and learning curves as inline SVG.
func (r *Report) HTML() string {
	p := &page{r: r}
	p.printf("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"+
		"<title>Methods compared on %s</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n", esc(r.Model), style)
	p.printf("<header><p class=\"kicker\">peftkit compare</p><h1>%s on %s</h1>\n<p class=\"lead\">%s. %s parameters. %s.</p>\n", plural(len(r.Rows), "method"),
		esc(baseName(r.Model)), esc(plural(len(r.Tasks), "task")), countText(r.Parameters), esc(r.Legend()))
	p.groups()
	p.printf("</header>\n")
	p.table()
	for t := range r.Tasks {
		p.task(t)
	}
	if why := r.Why(); len(why) > 0 {
		p.printf("<section><h2>Notes</h2><ul>\n")
		for _, w := range why {
			p.printf("<li>%s</li>\n", esc(w))
		}
		p.printf("</ul></section>\n")
	}
	if r.Command != "" {
		p.printf("<section><h2>Command</h2><pre>%s</pre></section>\n", esc(r.Command))
	}
	p.printf("</main>\n</body>\n</html>\n")
	return p.b.String()
}

const style = `:root{color-scheme:light dark;--bg:#fbfbf9;--card:#fff;--ink:#1d2129;--soft:#646b78;--line:#e3e4e0;--grid:#ecece8;
--prompt:#2f6fd0;--adapter:#cf7317;--reparametrisation:#1f8f63;--selective:#9a4bb5;--combination:#c93f53;--none:#878d98}
@media (prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1c1f25;--ink:#e8eaee;--soft:#9aa1ad;--line:#2d323b;--grid:#272b33;
--prompt:#6ea2f2;--adapter:#f0a04f;--reparametrisation:#4cc794;--selective:#c98be0;--combination:#f07a8a;--none:#8b92a0}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 20px 80px}h1{font-size:30px;line-height:1.2;margin:2px 0 8px;letter-spacing:-.01em}
h2{font-size:19px;margin:0 0 4px}h3{font-size:13px;font-weight:600;color:var(--soft);margin:18px 0 4px}
.kicker{margin:0;color:var(--soft);font-size:13px}.lead{margin:0 0 14px;color:var(--soft);max-width:75ch}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;margin:18px 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:6px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}th{font-weight:600;color:var(--soft);font-size:12.5px}
th:first-child,td:first-child{text-align:left}tr:last-child td{border-bottom:0}tr.yard td{color:var(--soft)}td b{font-weight:650}
.dot{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:8px}.legend{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--soft);font-size:13px}
.two{display:grid;grid-template-columns:1fr 1fr;gap:8px 28px}@media (max-width:820px){.two{grid-template-columns:1fr}}
svg{width:100%;height:auto;display:block;overflow:visible;font:11.5px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
svg text{fill:var(--ink);paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}svg .t{fill:var(--soft)}.g{stroke:var(--grid)}.a{stroke:var(--line)}.y{stroke:var(--soft);stroke-dasharray:4 4}
.w{stroke:var(--ink);stroke-width:1.4}.v{fill:var(--card);stroke:var(--ink);stroke-width:1}
.c{fill:none;stroke-width:1.8;stroke-linejoin:round}svg:has(.s:hover) .s:not(:hover){opacity:.13}.s{transition:opacity .12s}.s:hover .c{stroke-width:3}
ul{margin:6px 0;padding-left:20px;color:var(--soft)}pre{overflow-x:auto;margin:6px 0;font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}
`

type page struct {
	b strings.Builder
	r *Report
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

func esc(s string) string { return html.EscapeString(s) }

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// baseName is the last part of a path.
func baseName(path string) string {
	path = strings.TrimRight(path, "/\\")
	return path[strings.LastIndexAny(path, "/\\")+1:]
}

// color is the colour of a method's group.
func color(group string) string {
	for _, g := range groupNames {
		if g == group {
			return "var(--" + g + ")"
		}
	}
	return "var(--none)"
}

var groupNames = []string{"prompt", "adapter", "reparametrisation", "selective", "combination"}

// groups is the legend of the colours.
func (p *page) groups() {
	p.printf("<div class=\"legend\">")
	for _, g := range append(slices.Clone(groupNames), None) {
		if slices.ContainsFunc(p.r.Rows, func(r Row) bool { return r.Group == g || g == None && r.Method == None }) {
			name := g
			if g == None {
				name = "untouched base"
			}
			p.printf("<span><span class=\"dot\" style=\"background:%s\"></span>%s</span>", color(g), name)
		}
	}
	p.printf("</div>\n")
}

func (p *page) table() {
	head, rows := p.r.Table()
	best := make([]float64, len(p.r.Tasks)) // index of the best row
	for t, task := range p.r.Tasks {
		best[t] = -1
		for i := range p.r.Rows {
			c := &p.r.Rows[i].Cells[t]
			if m := p.r.Rows[i].Method; !c.OK() || m == None || m == Full {
				continue
			}
			if b := best[t]; b < 0 || (c.Mean > p.r.Rows[int(b)].Cells[t].Mean) != Raw(task.Metric) {
				best[t] = float64(i)
			}
		}
	}
	p.printf("<section><h2>Scores</h2><div class=\"scroll\"><table>\n<tr>")
	for _, h := range head {
		p.printf("<th>%s</th>", esc(strings.TrimPrefix(h, ">")))
	}
	p.printf("</tr>\n")
	for i, cells := range rows {
		row := &p.r.Rows[i]
		class := ""
		if row.Method == None || row.Method == Full {
			class = " class=\"yard\""
		}
		p.printf("<tr%s>", class)
		task := -1
		for k, c := range cells {
			if k == 0 {
				p.printf("<td><span class=\"dot\" style=\"background:%s\"></span>%s</td>", color(row.Group), esc(c))
				continue
			}
			name := strings.TrimPrefix(head[k], ">")
			if task+1 < len(p.r.Tasks) && name == p.r.Tasks[task+1].Name {
				if task++; best[task] == float64(i) {
					p.printf("<td><b>%s</b></td>", esc(c))
					continue
				}
			}
			p.printf("<td>%s</td>", esc(c))
		}
		p.printf("</tr>\n")
	}
	p.printf("</table></div></section>\n")
}

// task draws the figures of one task.
func (p *page) task(t int) {
	info := p.r.Tasks[t]
	p.printf("<section><h2>%s</h2>\n<p class=\"lead\">%s</p>\n", esc(info.Name), esc(MetricName(info.Metric)))
	if info.Metric == "" {
		p.printf("</section>\n")
		return
	}
	p.bars(t)
	p.printf("<div class=\"two\"><div>")
	p.sizes(t)
	p.printf("</div><div>")
	p.curves(t)
	p.printf("</div></div></section>\n")
}

// scale maps values to pixels.
type scale struct{ lo, hi, from, to float64 }

func (s scale) at(v float64) float64 {
	if s.hi == s.lo {
		return (s.from + s.to) / 2
	}
	return s.from + (v-s.lo)/(s.hi-s.lo)*(s.to-s.from)
}

// ticks returns about n round numbers between lo and hi.
func ticks(lo, hi float64, n int) []float64 {
	if !(hi > lo) {
		return []float64{lo}
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(n))))
	for _, f := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(step*f) <= float64(n) {
			step *= f
			break
		}
	}
	var out []float64
	for i := math.Ceil(lo / step); i*step <= hi+step*1e-9; i++ {
		out = append(out, i*step+0) // + 0 makes of -0 a 0
	}
	return out
}

// value writes a score of a task on an axis.
func value(metric string, v float64) string {
	if !Raw(metric) {
		v *= 100
	}
	return strings.TrimSuffix(fmt.Sprintf("%.4g", v), ".0")
}

// bars draws the scores as bars that begin at the untouched base, so that their
// length is the gain; without a base they begin at 0.
func (p *page) bars(t int) {
	metric := p.r.Tasks[t].Metric
	type bar struct {
		row *Row
		c   *Cell
	}
	var list []bar
	origin, full, hasBase, hasFull := 0.0, 0.0, false, false
	for i := range p.r.Rows {
		row := &p.r.Rows[i]
		c := &row.Cells[t]
		if !c.OK() {
			continue
		}
		switch row.Method {
		case None:
			origin, hasBase = c.Mean, true
			continue
		case Full:
			full, hasFull = c.Mean, true
		}
		list = append(list, bar{row, c})
	}
	if len(list) == 0 {
		p.printf("<p class=\"lead\">No method has a score.</p>")
		return
	}
	slices.SortStableFunc(list, func(a, b bar) int {
		d := b.c.Mean - a.c.Mean
		if Raw(metric) {
			d = -d
		}
		return int(math.Copysign(1, d)) * map[bool]int{true: 1, false: 0}[d != 0]
	})
	lo, hi := origin, origin
	for _, b := range list {
		lo, hi = min(lo, b.c.Mean-b.c.Spread), max(hi, b.c.Mean+b.c.Spread)
	}
	pad := (hi - lo) * 0.04
	if lo < origin {
		lo -= pad
	}
	hi += pad
	const left, width, high, top = 170.0, 1060.0, 25.0, 22.0
	bottom := top + high*float64(len(list))
	x := scale{lo, hi, left, width - 90}
	title := "Score: the bar is the gain over the untouched base; dots are seeds"
	if !hasBase {
		title = "Score; dots are seeds"
	}
	p.printf("<h3>%s</h3>\n<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n", title, width, bottom+26, esc("scores on "+p.r.Tasks[t].Name))
	for _, v := range ticks(lo, hi, 8) {
		p.printf("<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"t\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
			x.at(v), x.at(v), top, bottom, x.at(v), bottom+16, value(metric, v))
	}
	if hasFull {
		p.printf("<line class=\"y\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"><title>full fine-tuning %s</title></line>\n", x.at(full), x.at(full), top, bottom, value(metric, full))
	}
	if hasBase {
		p.printf("<text class=\"t\" x=\"%.1f\" y=\"12\" text-anchor=\"middle\">base %s</text>\n", x.at(origin), value(metric, origin))
	}
	if hasFull {
		p.printf("<text class=\"t\" x=\"%.1f\" y=\"12\" text-anchor=\"middle\">full %s</text>\n", x.at(full), value(metric, full))
	}
	for i, b := range list {
		y := top + high*(float64(i)+0.5)
		x0, x1 := x.at(origin), x.at(b.c.Mean)
		text := ScoreText(metric, b.c.Mean, b.c.Spread, len(b.c.Values))
		p.printf("<g class=\"s\"><title>%s: %s, %s parameters</title><text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s</text>"+
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"15\" rx=\"3\" fill=\"%s\" opacity=\".82\"/>",
			esc(b.row.Method), text, countText(b.row.Trainable), left-10, y+4, esc(b.row.Method), min(x0, x1), y-7.5, max(1.5, math.Abs(x1-x0)), color(b.row.Group))
		end := x1
		if b.c.Spread > 0 {
			a, e := x.at(b.c.Mean-b.c.Spread), x.at(b.c.Mean+b.c.Spread)
			p.printf("<line class=\"w\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", a, e, y, y)
			end = max(a, e)
		}
		for _, v := range b.c.Values {
			p.printf("<circle class=\"v\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.4\"/>", x.at(v), y)
			end = max(end, x.at(v))
		}
		p.printf("<text class=\"t\" x=\"%.1f\" y=\"%.1f\">%s</text></g>\n", max(end, x0)+8, y+4, text)
	}
	p.printf("<line class=\"a\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/></svg>\n", x.at(origin), x.at(origin), top, bottom)
}

// sizes draws scores over trained parameters.
func (p *page) sizes(t int) {
	metric := p.r.Tasks[t].Metric
	var rows []*Row
	lo, hi, few, many := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	base := math.NaN()
	for i := range p.r.Rows {
		row := &p.r.Rows[i]
		c := &row.Cells[t]
		if !c.OK() {
			continue
		}
		lo, hi = min(lo, c.Mean), max(hi, c.Mean)
		if row.Method == None {
			base = c.Mean
			continue
		}
		if row.Trainable > 0 {
			rows = append(rows, row)
			n := math.Log10(float64(row.Trainable))
			few, many = min(few, n), max(many, n)
		}
	}
	if len(rows) == 0 {
		return
	}
	margin := max((hi-lo)*0.08, 1e-9)
	const width, height, left, right, top, bottom = 520.0, 300.0, 42.0, 500.0, 10.0, 268.0
	x, y := scale{few - 0.2, many + 0.35, left, right}, scale{lo - margin, hi + margin, bottom, top}
	p.printf("<h3>Score over trained parameters</h3>\n<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"scores by size\">\n", width, height)
	for _, v := range ticks(y.lo, y.hi, 6) {
		p.printf("<line class=\"g\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"t\" x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", left, right, y.at(v), y.at(v), left-6, y.at(v)+4, value(metric, v))
	}
	for e := math.Ceil(x.lo); e <= x.hi; e++ {
		p.printf("<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.0f\" y2=\"%.0f\"/><text class=\"t\" x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>\n",
			x.at(e), x.at(e), top, bottom, x.at(e), bottom+17, countText(int64(math.Pow(10, e)+0.5)))
	}
	if base == base {
		p.printf("<line class=\"y\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"><title>untouched base %s</title></line>\n", left, right, y.at(base), y.at(base), value(metric, base))
	}
	// Labels go right of their points unless that place is taken.
	type box struct{ x0, y0, x1, y1 float64 }
	var taken []box
	for _, row := range rows {
		px, py := x.at(math.Log10(float64(row.Trainable))), y.at(row.Cells[t].Mean)
		taken = append(taken, box{px - 5, py - 5, px + 5, py + 5})
	}
	for _, row := range rows {
		px, py := x.at(math.Log10(float64(row.Trainable))), y.at(row.Cells[t].Mean)
		label := ""
		w := 6.1 * float64(len(row.Method))
		for _, at := range [][2]float64{{8, 4}, {-8 - w, 4}, {-w / 2, -8}, {-w / 2, 17}, {8, -6}, {8, 14}} {
			b := box{px + at[0], py + at[1] - 9, px + at[0] + w, py + at[1] + 2}
			free := b.x0 > left && b.x1 < right+18 && b.y0 > 0 && b.y1 < bottom
			for _, o := range taken {
				free = free && (b.x1 < o.x0 || b.x0 > o.x1 || b.y1 < o.y0 || b.y0 > o.y1)
			}
			if free {
				taken = append(taken, b)
				label = fmt.Sprintf("<text x=\"%.1f\" y=\"%.1f\">%s</text>", b.x0, py+at[1], esc(row.Method))
				break
			}
		}
		p.printf("<g class=\"s\"><title>%s: %s with %s parameters</title><circle cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\" fill=\"%s\"/>%s</g>\n",
			esc(row.Method), value(metric, row.Cells[t].Mean), countText(row.Trainable), px, py, color(row.Group), label)
	}
	p.printf("</svg>\n")
}

// dashes tell the lines of one group apart.
var dashes = []string{"", "6 3", "2 3", "9 3 2 3", "1 4", "12 4"}

// curves draws the training losses.
func (p *page) curves(t int) {
	type line struct {
		row  *Row
		pts  []Point
		dash string
		y    float64 // of the label
	}
	var lines []line
	used := map[string]int{}
	lo, hi, last := math.Inf(1), math.Inf(-1), 1.0
	for i := range p.r.Rows {
		row := &p.r.Rows[i]
		pts := smooth(row.Cells[t].Curve)
		if len(pts) < 2 {
			continue
		}
		for _, q := range pts {
			lo, hi, last = min(lo, q.Loss), max(hi, q.Loss), max(last, float64(q.Step))
		}
		lines = append(lines, line{row: row, pts: pts, dash: dashes[used[row.Group]%len(dashes)]})
		used[row.Group]++
	}
	if len(lines) == 0 {
		return
	}
	const width, left, right, top = 520.0, 42.0, 378.0, 10.0
	bottom := max(268, top+12*float64(len(lines))) // room for a label each
	height := bottom + 32
	x, y := scale{0, last, left, right}, scale{lo - (hi-lo)*0.04, hi, bottom, top}
	p.printf("<h3>Training loss over steps, mean of the seeds, smoothed</h3>\n<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"learning curves\">\n", width, height)
	for _, v := range ticks(y.lo, y.hi, 6) {
		p.printf("<line class=\"g\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"t\" x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n", left, right, y.at(v), y.at(v), left-6, y.at(v)+4, v)
	}
	for _, v := range ticks(0, last, 5) {
		p.printf("<text class=\"t\" x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">%.4g</text>\n", x.at(v), bottom+17, v)
	}
	for i := range lines {
		lines[i].y = y.at(lines[i].pts[len(lines[i].pts)-1].Loss)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return int(math.Copysign(1, a.y-b.y)) })
	// Labels at the right ends push each other down, and back up from the bottom.
	gap := min(13.0, (bottom-top)/float64(len(lines)))
	ends := make([]float64, len(lines))
	for i := range lines {
		ends[i] = lines[i].y
		if i > 0 {
			lines[i].y = max(lines[i].y, lines[i-1].y+gap)
		}
	}
	for i := len(lines) - 1; i >= 0; i-- {
		most := bottom + 2
		if i < len(lines)-1 {
			most = lines[i+1].y - gap
		}
		lines[i].y = min(lines[i].y, most)
	}
	for i, l := range lines {
		var path strings.Builder
		for k, q := range l.pts {
			fmt.Fprintf(&path, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[k == 0], x.at(float64(q.Step)), y.at(q.Loss))
		}
		c := color(l.row.Group)
		p.printf("<g class=\"s\"><title>%s</title><path class=\"c\" d=\"%s\" stroke=\"%s\" stroke-dasharray=\"%s\"/>"+
			"<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"%s\" fill=\"none\" opacity=\".45\"/><text x=\"%.0f\" y=\"%.1f\" style=\"fill:%s\">%s</text></g>\n",
			esc(l.row.Method), path.String(), c, l.dash, right+1, ends[i], right+12, l.y, c, right+16, l.y+4, c, esc(l.row.Method))
	}
	p.printf("</svg>\n")
}

// smooth averages each point with its neighbours, about a tenth of the curve.
func smooth(pts []Point) []Point {
	half := len(pts) / 20
	out := slices.Clone(pts)
	for i := range pts {
		lo, hi := max(0, i-half), min(len(pts), i+half+1)
		var sum float64
		for _, q := range pts[lo:hi] {
			sum += q.Loss
		}
		out[i].Loss = sum / float64(hi-lo)
	}
	return out
}
