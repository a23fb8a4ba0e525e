// Draw charts as SVG from plain data. Colours are variables of page.css, so a chart follows the theme and prints.
//
// drawPlot(element, plot)   points, lines and bands on two linear axes
// drawRows(element, rows)   horizontal bars from `from` to `to`, one a row, with a whisker and a middle mark
// addThemeButton(element)   switch between the system's theme, light and dark
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 58, RIGHT = 14, TOP = 14, BOTTOM = 46;

function node(parent, name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== "") made.textContent = text;
  parent.appendChild(made);
  return made;
}

function html(parent, name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  parent.appendChild(made);
  return made;
}

function shown(value, digits = 3) {
  if (!Number.isFinite(value)) return "unknown";
  if (value === 0) return "0";
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(places, 6));
}

// Round numbers of about `count` ticks between two ends.
function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(i * step);
  return { values: out, places: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function range(values, pad) {
  let low = Math.min(...values), high = Math.max(...values);
  if (!(high > low)) { const half = Math.abs(low) * 0.05 || 1; low -= half; high += half; }
  return [low - pad * (high - low), high + pad * (high - low)];
}

function marker(parent, shape, x, y, size, colour) {
  const filled = { fill: colour, stroke: "var(--card)", "stroke-width": 1 };
  const open = { fill: "var(--card)", stroke: colour, "stroke-width": 1.6 };
  if (shape === "star") {
    const corners = [...Array(10).keys()].map((i) => {
      const radius = i % 2 ? size * 0.45 : size, angle = Math.PI * (i / 5 - 0.5);
      return `${(x + radius * Math.cos(angle)).toFixed(1)},${(y + radius * Math.sin(angle)).toFixed(1)}`;
    });
    return node(parent, "polygon", { points: corners.join(" "), ...filled });
  }
  if (shape === "diamond") {
    return node(parent, "polygon", { points: `${x},${y - size} ${x + size},${y} ${x},${y + size} ${x - size},${y}`, ...open });
  }
  return node(parent, "circle", { cx: x, cy: y, r: size, ...(shape === "ring" ? open : filled) });
}

// Redraw when the width changes. Returns a function that redraws at once.
function redrawn(element, draw) {
  let width = 0;
  const redraw = () => { width = element.clientWidth; if (width) draw(width); };
  new ResizeObserver(() => { if (element.clientWidth !== width) redraw(); }).observe(element);
  redraw();
  return redraw;
}

function tipOf(element) {
  const tip = html(element, "div", "tip");
  tip.hidden = true;
  return {
    show(text, x, y) {
      tip.textContent = text;
      tip.hidden = false;
      const left = x + 14 + tip.offsetWidth > element.clientWidth ? x - 14 - tip.offsetWidth : x + 14;
      tip.style.left = `${Math.max(0, left)}px`;
      tip.style.top = `${Math.max(0, y - 10)}px`;
    },
    hide() { tip.hidden = true; },
  };
}

function legendOf(element, series) {
  const legend = html(element, "div", "legend");
  for (const one of series) {
    if (!one.name) continue;
    const entry = html(legend, "span"), icon = node(entry, "svg", { viewBox: "0 0 18 14", "aria-hidden": "true" });
    if (one.kind === "points") marker(icon, one.shape, 9, 7, Math.min(one.size, 6), one.colour);
    else if (one.kind === "band") node(icon, "rect", { x: 1, y: 2, width: 16, height: 10, fill: one.colour });
    else node(icon, "line", { x1: 0, y1: 7, x2: 18, y2: 7, stroke: one.colour, "stroke-width": 2 });
    entry.append(one.name);
  }
}

// plot: {label, x: title, y: title, height, square, series, guides, onPick}
// series: {kind: "points", name, colour, shape, size, points: [{x, y, low, high, lowX, highX, text, key}]}
//         {kind: "line" | "band", name, colour, step, points: [[x, y]]}
// guides: [{axis: "x" | "y", value, text, colour}]; they may move: returns {update(guides, key of the chosen point)}
function drawPlot(element, plot) {
  element.classList.add("chart");
  legendOf(element, plot.series);
  const svg = node(element, "svg", { role: "img", "aria-label": plot.label, tabindex: 0 });
  const tip = tipOf(element);
  let guides = plot.guides || [], chosen = null, spots = [], focus = -1;
  const flat = plot.series.flatMap((s) => s.kind === "points"
    ? s.points.map((p) => [p.x, p.y, p.lowX ?? p.x, p.highX ?? p.x, p.low ?? p.y, p.high ?? p.y])
    : s.points.map(([x, y]) => [x, y, x, x, y, y]));
  let [x0, x1] = range(flat.flatMap((f) => [f[0], f[2], f[3]]), 0.03), [y0, y1] = range(flat.flatMap((f) => [f[1], f[4], f[5]]), 0.05);
  if (plot.square) { x0 = y0 = Math.min(x0, y0); x1 = y1 = Math.max(x1, y1); }

  const redraw = redrawn(element, (width) => {
    const height = plot.height || 430;
    const X = (v) => LEFT + (v - x0) / (x1 - x0) * (width - LEFT - RIGHT), Y = (v) => height - BOTTOM - (v - y0) / (y1 - y0) * (height - TOP - BOTTOM);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    svg.replaceChildren();
    drawAxes(svg, plot, { x0, x1, y0, y1, X, Y, width, height });
    spots = [];
    for (const one of plot.series) drawSeries(svg, one, X, Y, spots);
    for (const guide of guides) drawGuide(svg, guide, X, Y, width, height);
    for (const spot of spots.filter((s) => s.key !== undefined && s.key === chosen)) node(svg, "circle", { class: "chosen", cx: spot.px, cy: spot.py, r: 11 });
  });

  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    let best = -1, least = 24 ** 2;
    spots.forEach((s, i) => { const d = (s.px - px) ** 2 + (s.py - py) ** 2; if (d < least) { least = d; best = i; } });
    return best;
  };
  const show = (i) => {
    focus = i;
    if (i < 0) { tip.hide(); return; }
    const spot = spots[i], top = svg.offsetTop || svg.getBoundingClientRect().top - element.getBoundingClientRect().top;
    tip.show(spot.text, spot.px, spot.py + top);
  };
  const pick = (i) => { if (i >= 0 && spots[i].key !== undefined && plot.onPick) plot.onPick(spots[i].key); };
  svg.addEventListener("pointermove", (event) => show(nearest(event)));
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("blur", () => show(-1));
  svg.addEventListener("click", (event) => pick(nearest(event)));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step) {
      const order = spots.map((_, i) => i).sort((a, b) => spots[a].px - spots[b].px || spots[a].py - spots[b].py);
      const at = order.indexOf(focus);
      show(order[at < 0 ? (step > 0 ? 0 : order.length - 1) : Math.min(Math.max(at + step, 0), order.length - 1)]);
      event.preventDefault();
    } else if (event.key === "Enter" || event.key === " ") { pick(focus); event.preventDefault(); }
    else if (event.key === "Escape") show(-1);
  });
  return { update(moved, key) { guides = moved; chosen = key; redraw(); } };
}

function drawAxes(svg, plot, { x0, x1, y0, y1, X, Y, width, height }) {
  const across = ticks(x0, x1, Math.max(4, width / 110)), up = ticks(y0, y1, 6);
  for (const v of across.values) {
    node(svg, "line", { class: "gridline", x1: X(v), x2: X(v), y1: TOP, y2: height - BOTTOM });
    node(svg, "text", { class: "small", x: X(v), y: height - BOTTOM + 16, "text-anchor": "middle" }, v.toFixed(across.places));
  }
  for (const v of up.values) {
    node(svg, "line", { class: "gridline", x1: LEFT, x2: width - RIGHT, y1: Y(v), y2: Y(v) });
    node(svg, "text", { class: "small", x: LEFT - 7, y: Y(v) + 4, "text-anchor": "end" }, v.toFixed(up.places));
  }
  node(svg, "text", { x: (LEFT + width - RIGHT) / 2, y: height - 8, "text-anchor": "middle" }, plot.x);
  const middle = (TOP + height - BOTTOM) / 2;
  node(svg, "text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, plot.y);
}

function drawSeries(svg, one, X, Y, spots) {
  if (one.kind !== "points") {
    const path = one.points.map(([x, y], i) => {
      const corner = one.step && i ? `H${X(x).toFixed(1)}V${Y(y).toFixed(1)}` : `${i ? "L" : "M"}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`;
      return corner;
    }).join("");
    node(svg, "path", one.kind === "band" ? { d: `${path}Z`, fill: one.colour }
      : { d: path, fill: "none", stroke: one.colour, "stroke-width": 1.5 });
    return;
  }
  for (const p of one.points) {
    const px = X(p.x), py = Y(p.y), bar = { stroke: one.colour, "stroke-width": 1.2 };
    if (p.high !== undefined) node(svg, "line", { x1: px, x2: px, y1: Y(p.low), y2: Y(p.high), ...bar });
    if (p.highX !== undefined) node(svg, "line", { x1: X(p.lowX), x2: X(p.highX), y1: py, y2: py, ...bar });
    const made = marker(svg, one.shape, px, py, one.size, one.colour);
    made.classList.add("point");
    if (p.key !== undefined) made.dataset.key = p.key;
    spots.push({ px, py, text: p.text, key: p.key });
  }
}

function drawGuide(svg, guide, X, Y, width, height) {
  const style = { stroke: guide.colour, "stroke-width": 1.5, "stroke-dasharray": "6 4" };
  const at = guide.axis === "x" ? X(guide.value) : Y(guide.value);
  if (guide.axis === "x") {
    if (at < LEFT || at > width - RIGHT) return;
    node(svg, "line", { x1: at, x2: at, y1: TOP, y2: height - BOTTOM, ...style });
    const right = at > width - 130;
    node(svg, "text", { x: at + (right ? -6 : 6), y: height - BOTTOM - 8, "text-anchor": right ? "end" : "start", style: `fill: ${guide.colour}` }, guide.text);
  } else {
    if (at < TOP || at > height - BOTTOM) return;
    node(svg, "line", { x1: LEFT, x2: width - RIGHT, y1: at, y2: at, ...style });
    node(svg, "text", { x: width - RIGHT - 4, y: at - 5, "text-anchor": "end", style: `fill: ${guide.colour}` }, guide.text);
  }
}

// plot: {label, x: title, rows: [{label, from, to, low, high, middle, colour, value, text}]}
// Returns {update(rows, title)}.
function drawRows(element, plot) {
  element.classList.add("chart");
  const svg = node(element, "svg", { role: "img", "aria-label": plot.label });
  const tip = tipOf(element);
  let { rows, x: title } = plot;
  const redraw = redrawn(element, (width) => {
    const step = 22, height = TOP + rows.length * step + BOTTOM;
    const left = Math.min(width * 0.36, 12 + 6.6 * Math.max(...rows.map((r) => r.label.length)));
    const ends = rows.flatMap((r) => [r.from, r.to, r.low ?? r.from, r.high ?? r.to]);
    const low = Math.min(0, ...ends), high = Math.max(0, ...ends) || 1;
    const X = (v) => left + (v - low) / (high - low) * (width - left - 62);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    svg.replaceChildren();
    const across = ticks(low, high, Math.max(3, width / 120));
    for (const v of across.values) {
      node(svg, "line", { class: "gridline", x1: X(v), x2: X(v), y1: TOP, y2: height - BOTTOM });
      node(svg, "text", { class: "small", x: X(v), y: height - BOTTOM + 16, "text-anchor": "middle" }, v.toFixed(across.places));
    }
    node(svg, "text", { x: (left + width - 62) / 2, y: height - 8, "text-anchor": "middle" }, title);
    rows.forEach((row, i) => drawRow(svg, row, TOP + i * step, step, left, X, width));
  });
  svg.addEventListener("pointermove", (event) => {
    const top = svg.getBoundingClientRect().top, row = rows[Math.floor((event.clientY - top - TOP) / 22)];
    if (!row || !row.text) { tip.hide(); return; }
    const box = element.getBoundingClientRect();
    tip.show(row.text, event.clientX - box.left, event.clientY - box.top);
  });
  svg.addEventListener("pointerleave", () => tip.hide());
  return { update(moved, words) { rows = moved; title = words; redraw(); } };
}

function drawRow(svg, row, y, step, left, X, width) {
  const group = node(svg, "g", { class: "bar" }), middle = y + step / 2;
  node(group, "text", { x: left - 8, y: middle + 4, "text-anchor": "end" }, row.label);
  if (row.high !== undefined) {
    node(group, "line", { x1: X(row.low), x2: X(row.high), y1: middle, y2: middle, stroke: row.colour, "stroke-width": 1.2 });
  }
  const start = Math.min(X(row.from), X(row.to));
  node(group, "rect", { x: start, y: y + 4, width: Math.max(1, Math.abs(X(row.to) - X(row.from))), height: step - 8, rx: 2, fill: row.colour });
  if (row.middle !== undefined) {
    node(group, "line", { x1: X(row.middle), x2: X(row.middle), y1: y + 2, y2: y + step - 2, stroke: "var(--ink)", "stroke-width": 2 });
  }
  if (row.value) {
    node(group, "text", { class: "small", x: Math.min(X(Math.max(row.from, row.to, row.high ?? row.to)) + 5, width - 40), y: middle + 4 }, row.value);
  }
}

function addThemeButton(element) {
  const themes = ["system", "light", "dark"], button = html(element, "button", "theme");
  let at = 0;
  const set = () => {
    if (themes[at] === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = themes[at];
    button.textContent = `Theme: ${themes[at]}`;
  };
  button.addEventListener("click", () => { at = (at + 1) % themes.length; set(); });
  set();
}

function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Draw the plots of a page: {element id: plot, or rows}.
function drawAll(plots) {
  for (const [id, plot] of Object.entries(plots)) (plot.rows ? drawRows : drawPlot)(document.getElementById(id), plot);
}

// Add what every page has, and mark the page as complete, for tests.
function finishPage() {
  addThemeButton(document.getElementById("theme"));
  document.documentElement.dataset.ready = "true";
}

function pageData() { return JSON.parse(document.getElementById("data").textContent); }
