"use strict";
// Drawing: elements without innerHTML (nothing that a run says is ever parsed as markup), lines, bands, cells.

const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined) continue;
    if (key === "class") node.className = value; else node.setAttribute(key, value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

function draw(parent, tag, attributes, colour, paint) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (colour) node.style[paint || "fill"] = colour;
  parent.append(node);
  return node;
}

function label(parent, x, y, text, anchor) {
  const node = draw(parent, "text", { x, y, "text-anchor": anchor || "start" });
  node.textContent = text;
  return node;
}

function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3) return value.toExponential(2);
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]])
    if (size >= unit) return trim((value / (name === "k" ? 1e3 : unit)).toPrecision(3)) + name;
  return trim(value.toPrecision(size < 1 ? 3 : 4));
}
const trim = (text) => text.includes("e") ? String(Number(text)) : text.includes(".") ? text.replace(/\.?0+$/, "") : text;
const gib = (value) => value === null || value === undefined ? "–" : trim((value / 2 ** 30).toFixed(value < 2 ** 33 ? 2 : 1)) + " GiB";
const share = (value) => value === null || value === undefined ? "–" : trim((100 * value).toFixed(1)) + " %";
const rate = (value) => value === null || value === undefined ? "–" : short(value) + "B/s";

function ticks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((part) => part * power >= raw) * power;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return found;
}

// A frame with axes. Returns the svg, scales x(value) and y(value) and the inner rectangle.
function frame(host, range, options) {
  const width = Math.max(host.clientWidth || 300, 220), height = options.height || 190;
  const box = { left: options.left || 52, right: width - 12, top: 8, bottom: height - 22 };
  const svg = draw(host, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": options.name || "" });
  let [x0, x1] = range.x, [y0, y1] = range.y;
  if (!(x1 > x0)) x1 = x0 + 1;
  if (!(y1 > y0)) { const pad = Math.abs(y0) * 0.05 || 1; y0 -= pad; y1 += pad; }
  const x = (value) => box.left + (value - x0) / (x1 - x0) * (box.right - box.left);
  const y = (value) => box.bottom - (value - y0) / (y1 - y0) * (box.bottom - box.top);
  for (const at of options.noY ? [] : ticks(y0, y1, 4)) {
    draw(svg, "line", { x1: box.left, x2: box.right, y1: y(at), y2: y(at), class: "grid" });
    label(svg, box.left - 6, y(at) + 4, (options.format || short)(at), "end");
  }
  for (const at of ticks(x0, x1, Math.max(2, Math.floor((box.right - box.left) / 110)))) {
    draw(svg, "line", { x1: x(at), x2: x(at), y1: box.bottom, y2: box.bottom + 4, class: "grid" });
    label(svg, x(at), height - 6, (options.xFormat || short)(at), at === x1 ? "end" : "middle");
  }
  return { svg, x, y, box, x0, x1 };
}

function extent(lists, zero) {
  let low = Infinity, high = -Infinity;
  for (const list of lists) for (const value of list) if (value !== null && value !== undefined) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low === Infinity) return zero ? [0, 1] : null;
  if (zero && low > 0) low = 0;
  return [low, high];
}

function path(xs, ys, at) {
  let text = "", open = false;
  for (let i = 0; i < xs.length; i++) {
    if (ys[i] === null || ys[i] === undefined) continue; // not measured at that step
    text += `${open ? "L" : "M"}${at.x(xs[i]).toFixed(1)} ${at.y(ys[i]).toFixed(1)}${open ? "" : "h.01"}`;
    open = true;
  }
  return text;
}

function band(xs, low, high, at) {
  const there = [], back = [];
  for (let i = 0; i < xs.length; i++) if (low[i] !== null && high[i] !== null && low[i] !== undefined && high[i] !== undefined) {
    there.push(`${at.x(xs[i]).toFixed(1)} ${at.y(high[i]).toFixed(1)}`);
    back.unshift(`${at.x(xs[i]).toFixed(1)} ${at.y(low[i]).toFixed(1)}`);
  }
  return there.length ? `M${there.concat(back).join("L")}Z` : "";
}

// series: [{name, x, y, low, high, colour, points}]; lines: [{value, name, colour}], drawn across.
function lineChart(host, readout, options) {
  const series = options.series.filter((one) => one.x.length && one.y);
  const within = (one) => one.low ? [one.y, one.low, one.high] : [one.y];
  const xs = extent(series.map((one) => one.x)), ys = extent(series.flatMap(within).concat([(options.lines || []).map((l) => l.value)]), options.zero);
  if (!xs || !ys) return false;
  const pad = options.zero ? 0 : (ys[1] - ys[0]) * 0.04;
  const at = frame(host, { x: xs, y: [ys[0] - pad, ys[1] + (ys[1] - ys[0]) * 0.04] }, options);
  for (const one of series) {
    if (one.low) draw(at.svg, "path", { d: band(one.x, one.low, one.high, at), opacity: 0.2 }, one.colour);
    if (one.points) {
      one.x.forEach((x, i) => { if (one.y[i] !== null) draw(at.svg, "circle", { cx: at.x(x), cy: at.y(one.y[i]), r: 3.5 }, one.colour); });
      continue;
    }
    draw(at.svg, "path", { d: path(one.x, one.y, at), fill: "none", "stroke-width": 1.6, "stroke-linejoin": "round", "stroke-linecap": "round" }, one.colour, "stroke");
  }
  for (const line of options.lines || []) {
    draw(at.svg, "line", { x1: at.box.left, x2: at.box.right, y1: at.y(line.value), y2: at.y(line.value), "stroke-width": 1.5, "stroke-dasharray": "6 4" }, line.colour, "stroke");
  }
  hover(at, readout, (step) => series.map((one) => {
    const index = nearest(one.x, step);
    return one.y[index] === null ? null : [one.x[index], `${one.name ? one.name + " " : ""}${(options.format || short)(one.y[index])}`];
  }), options.unit);
  return true;
}

function nearest(xs, wanted) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (xs[middle] < wanted) low = middle; else high = middle; }
  return Math.abs(xs[low] - wanted) <= Math.abs(xs[high] - wanted) ? low : high;
}

// Shows what lies under the pointer in the line above the chart, which phones can read too.
function hover(at, readout, tell, unit) {
  if (!readout) return;
  const cross = draw(at.svg, "line", { y1: at.box.top, y2: at.box.bottom, class: "cross", visibility: "hidden" });
  const usual = readout.textContent;
  at.svg.addEventListener("pointermove", (event) => {
    const place = at.svg.getBoundingClientRect();
    const inside = Math.min(Math.max(event.clientX - place.left, at.box.left), at.box.right);
    const step = at.x0 + (inside - at.box.left) / (at.box.right - at.box.left) * (at.x1 - at.x0);
    const told = tell(step, event.clientY - place.top).filter(Boolean);
    if (!told.length) return;
    cross.setAttribute("visibility", "visible");
    cross.setAttribute("x1", at.x(told[0][0])); cross.setAttribute("x2", at.x(told[0][0]));
    readout.textContent = `${unit || ""} ${short(told[0][0])}: ${told.map((one) => one[1]).join(" · ")}`;
  });
  at.svg.addEventListener("pointerleave", () => { cross.setAttribute("visibility", "hidden"); readout.textContent = usual; });
}

// layers: [{name, y, colour}], stacked over common x.
function stackChart(host, readout, options) {
  const xs = options.x;
  const base = xs.map(() => 0), tops = [];
  for (const layer of options.layers) {
    const low = base.slice();
    layer.y.forEach((value, i) => { base[i] += value || 0; });
    tops.push({ low, high: base.slice() });
  }
  const ys = extent([base], true);
  if (!xs.length || !ys) return false;
  const at = frame(host, { x: [xs[0], xs[xs.length - 1]], y: ys }, options);
  options.layers.forEach((layer, i) => draw(at.svg, "path", { d: band(xs, tops[i].low, tops[i].high, at) }, layer.colour));
  hover(at, readout, (step) => {
    const index = nearest(xs, step);
    return options.layers.filter((layer) => layer.y[index]).map((layer) => [xs[index], `${layer.name} ${(options.format || short)(layer.y[index])}`]);
  }, options.unit);
  return true;
}

// Rectangles of a few colours, one path a colour: cheap at tens of thousands of cells.
class Cells {
  constructor() { this.paths = new Map(); }
  add(colour, x, y, width, height) {
    this.paths.set(colour, (this.paths.get(colour) || "") + `M${x.toFixed(1)} ${y.toFixed(1)}h${width.toFixed(2)}v${height.toFixed(2)}h${(-width).toFixed(2)}z`);
  }
  put(svg) { for (const [colour, text] of this.paths) draw(svg, "path", { d: text, "shape-rendering": "crispEdges" }, colour); }
}

// rows: [ranks][columns]; level(value) gives the number of a heat colour.
function heatMap(host, readout, options) {
  const count = options.rows.length, columns = options.x.length;
  if (!count || !columns || !options.rows.some((row) => row.some((value) => value !== null))) return false;
  const cell = Math.max(Math.min(18, 420 / count), 5);
  const last = options.x[columns - 1] + (columns > 1 ? options.x[1] - options.x[0] : 1);
  const at = frame(host, { x: [options.x[0], last], y: [0, count] }, { ...options, height: count * cell + 32, noY: true });
  const cells = new Cells(), wide = (at.box.right - at.box.left) / columns;
  options.rows.forEach((row, r) => {
    for (let c = 0; c < columns;) {
      const level = row[c] === null ? null : options.level(row[c]);
      let next = c + 1;
      while (next < columns && (row[next] === null ? null : options.level(row[next])) === level) next++;
      if (level !== null) cells.add(`var(--h${level})`, at.box.left + c * wide, at.box.top + r * cell, (next - c) * wide, cell - (cell > 8 ? 1 : 0));
      c = next;
    }
  });
  cells.put(at.svg);
  const every = Math.ceil(13 / cell);
  options.names.forEach((name, r) => { if (r % every === 0) label(at.svg, at.box.left - 6, at.box.top + r * cell + cell / 2 + 4, name, "end"); });
  hover(at, readout, (step, y) => {
    const r = Math.min(Math.max(Math.floor((y - at.box.top) / cell), 0), count - 1);
    const c = Math.min(Math.max(Math.floor((step - options.x[0]) / (last - options.x[0]) * columns), 0), columns - 1);
    return [[options.x[c], `${options.rowName} ${options.names[r]}: ${options.format(options.rows[r][c])}`]];
  }, options.unit);
  return true;
}
