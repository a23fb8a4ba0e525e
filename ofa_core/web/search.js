// The report of a search: choose a network on the front or by a limit, and see it on each device, its stages and layers.
"use strict";

const data = pageData();
const byId = (id) => document.getElementById(id);
const { objective, devices, networks } = data;
const winner = networks.findIndex((net) => net.role === "winner");
const title = (words) => words.unit ? `${words.label[0].toUpperCase()}${words.label.slice(1)} (${words.unit})` : words.label;
const withUnit = (words, value) => `${shown(value, 4)}${words.unit ? ` ${words.unit}` : ""}`;
const better = objective.direction === "max" ? (a, b) => a > b : (a, b) => a < b;
const LOOKS = [["blue", "circle"], ["orange", "ring"], ["green", "diamond"], ["s6", "circle"], ["s4", "ring"], ["red", "diamond"]];
let chosen = winner, mode = "ms";

// What the horizontal axis can show: the cost of the search, and the latency on each device.
const axes = [...new Set([data.cost.name, ...devices.map((d) => d.quantity)])].map((name) => {
  const device = devices.findIndex((d) => d.quantity === name), words = data.quantities.find((q) => q.name === name);
  const label = device >= 0 && devices.length > 1 ? `predicted latency on ${devices[device].name}` : words.label;
  return { ...words, label, device, limit: name === data.cost.name ? data.limit : devices[device].limit };
}).filter(({ name }) => networks.some((net) => net.values[name] !== undefined));
let axis = axes[0], all = false, limit = axis.limit;

// ---- the front -------------------------------------------------------------------------------------------------------

function pointsOf(role, { name, label, device, ...words } = axis) {
  return networks.map((net, i) => ({ net, i })).filter(({ net }) => net.role === role && net.values[name] !== undefined).map(({ net, i }) => {
    const x = net.values[name], y = net.values[objective.name], on = net.on[device];
    const point = { x, y, key: i,
      text: `${net.title}\n${label} ${withUnit(words, x)}, ${objective.label} ${withUnit(objective, y)}\n${net.text.replaceAll(" ", "\n")}` };
    if (role === "winner" && on?.low !== undefined) { point.lowX = on.low; point.highX = on.high; }
    return point;
  });
}

// The best of the front's networks on an axis, by ascending value.
function lineOf(one) {
  const line = [];
  for (const { x, y } of pointsOf("front", one).sort((p, q) => p.x - q.x)) if (!line.length || better(y, line.at(-1)[1])) line.push([x, y]);
  return line;
}

function limitText() { return limit === null ? "none" : `${Number(limit.toPrecision(4))} ${axis.unit}`; }

function guidesOf() {
  if (all || limit === null) return [];
  const own = limit === axis.limit;
  return [{ axis: "x", value: limit, text: `${own ? "limit" : "what if"} ${limitText()}`,
    colour: own ? "var(--red)" : "var(--grey)" }];
}

function seriesOfAll() {
  return axes.filter(({ device }) => device >= 0).flatMap((one, i) => {
    const [name, shape] = LOOKS[i % LOOKS.length], colour = `var(--${name})`;
    return [
      { kind: "line", name: "", colour, step: true, points: lineOf(one) },
      { kind: "points", name: devices[one.device].name, colour, shape, size: 3.5, points: pointsOf("front", one) },
      { kind: "points", name: "", colour, shape: "star", size: 10, points: pointsOf("winner", one) },
    ];
  });
}

function seriesOfAxis() {
  return [
    { kind: "line", name: "front", colour: "var(--blue)", step: true, points: lineOf(axis) },
    { kind: "points", name: "", colour: "var(--blue)", shape: "circle", size: 3.5, points: pointsOf("front") },
    { kind: "points", name: "other candidates", colour: "var(--orange)", shape: "ring", size: 4.5, points: pointsOf("candidate") },
    { kind: "points", name: "winner", colour: "var(--orange)", shape: "star", size: 10, points: pointsOf("winner") },
  ];
}

let plot;
function drawFront() {
  const words = all ? { label: "Predicted latency", unit: axes.find((one) => one.device >= 0).unit } : axis;
  byId("front").replaceChildren();
  plot = drawPlot(html(byId("front"), "div"), {
    label: `${objective.label} against ${words.label} of ${networks.length} networks`, x: title(words), y: title(objective),
    series: all ? seriesOfAll() : seriesOfAxis(), guides: guidesOf(), onPick: choose,
  });
}

const select = byId("axis"), ALL = "all";
for (const one of axes) {
  const option = html(select, "option", "", one.device < 0 || devices.length === 1 ? one.label : `${one.label} (${devices[one.device].words})`);
  option.value = one.name;
}
if (axes.filter(({ device }) => device >= 0).length > 1) html(select, "option", "", "all devices").value = ALL;
byId("axis-row").hidden = select.options.length < 2;
select.addEventListener("change", () => {
  all = select.value === ALL;
  axis = axes.find(({ name }) => name === select.value) ?? axes[0];
  drawFront();
  resetLimit();
  choose(chosen);
});

// ---- the limit -------------------------------------------------------------------------------------------------------

const slider = byId("limit"), said = byId("limit-said"), STEPS = 1000;
slider.max = STEPS;

function ends() {
  const values = pointsOf("front").map(({ x }) => x);
  return [Math.min(...values), Math.max(...values)];
}

function resetLimit() {
  const [low, high] = ends();
  limit = axis.limit;
  slider.value = limit === null ? STEPS : Math.round((limit - low) / (high - low) * STEPS);
  said.textContent = limitText();
  byId("limit-row").hidden = all || !(high > low);
}

slider.addEventListener("input", () => {
  const [low, high] = ends();
  limit = low + slider.value / STEPS * (high - low);
  said.textContent = limitText();
  const within = [...pointsOf("front"), ...pointsOf("winner")].filter(({ x }) => x <= limit * (1 + 1e-9));
  if (within.length) choose(within.reduce((best, one) => better(one.y, best.y) ? one : best).key);
});

byId("winner").addEventListener("click", () => { resetLimit(); choose(winner); });

// ---- the chosen network ----------------------------------------------------------------------------------------------

function choose(i) {
  chosen = i;
  const net = networks[i], panel = byId("chosen");
  plot.update(guidesOf(), i);
  panel.replaceChildren();
  html(panel, "h3", "", net.title);
  const values = html(panel, "div", "chosen-values");
  for (const words of data.quantities) {
    if (net.values[words.name] === undefined || (devices.length > 1 && devices.some((d) => d.quantity === words.name))) continue;
    const entry = html(values, "span");
    html(entry, "b", "", withUnit(words, net.values[words.name]));
    const change = net.values[words.name] - networks[winner].values[words.name];
    entry.append(` ${words.label}`, i === winner || !change ? "" : ` (${change > 0 ? "+" : "\u2212"}${shown(Math.abs(change), 3)})`);
  }
  html(panel, "code", "", net.text);
  drawDevices(panel, net);
  drawStages(html(panel, "div", "stages"), net);
  byId("winner").disabled = i === winner;
  showLayers();
}

const interval = (low, high) => low === undefined ? "" : ` (${shown(low, 4)} to ${shown(high, 4)})`;
const places = (limit) => Math.max(0, 3 - Math.floor(Math.log10(limit)));
const headroomOf = (net, d) => net.on[d] && devices[d].limit !== null ? devices[d].limit - (net.on[d].measured?.[0] ?? net.on[d].ms) : null;

function gridOf(panel, id, titles) {
  const table = html(html(panel, "div", "wide"), "table", "grid"), head = html(table, "tr", "head");
  table.id = id;
  titles.forEach((words) => html(head, "td", "", words));
  return table;
}

function drawDevices(panel, net) {
  const table = gridOf(panel, "on-devices", ["ms per batch", "predicted (90 %)", "measured (90 %)", "limit", "headroom"]);
  devices.forEach((device, d) => {
    const row = html(table, "tr"), on = net.on[d], room = headroomOf(net, d), first = html(row, "td", "device", device.name);
    html(first, "span", "", device.words);
    html(row, "td", "", on ? `${shown(on.ms, 4)}${interval(on.low, on.high)}` : "unknown");
    html(row, "td", "", on?.measured ? `${shown(on.measured[0], 4)}${interval(on.measured[1], on.measured[2])}` : "\u2013");
    html(row, "td", "", device.limit === null ? "\u2013" : `${device.limit}`);
    html(row, "td", room < 0 ? "over" : "", room === null ? "\u2013" : `${room.toFixed(places(device.limit))} (${(100 * room / device.limit).toFixed(1)} %)`);
  });
  const partial = devices.map((_, d) => stageMs(net, d));
  if (!partial.some((parts) => parts)) return;
  const names = ["first", ...data.stages.map((_, s) => `stage ${s + 1}`), "last"];
  const stages = gridOf(panel, "by-stage", ["ms in the table", ...names, "sum"]);
  devices.forEach((device, d) => {
    const row = html(stages, "tr"), parts = partial[d];
    html(row, "td", "", device.name);
    if (!parts) { html(row, "td", "", "unknown").colSpan = names.length + 1; return; }
    const sum = parts.reduce((s, ms) => s + ms, 0), most = Math.max(...parts);
    for (const ms of parts) html(row, "td", "share", shown(ms)).style.setProperty("--share", `${(100 * ms / most).toFixed(1)}%`);
    html(row, "td", "", shown(sum, 4));
  });
}

// The sums of a network's layers on a device: those before the stages, of each stage, and behind them; null if unknown.
function stageMs(net, d) {
  const layers = net.on[d]?.layers;
  if (!layers) return null;
  const parts = Array(data.stages.length + 2).fill(0);
  let at = 0;
  net.layers.forEach(([, block], i) => {
    const { stage } = data.blocks[block];
    at = stage === null ? (at ? parts.length - 1 : 0) : stage + 1;
    parts[at] += layers[i];
  });
  return parts;
}

function drawStages(element, net) {
  let slot = 0;
  data.stages.forEach((stage, s) => {
    const row = html(element, "div", "stage"), depth = net.arch.d[s];
    html(row, "span", "", `stage ${s + 1}: ${stage.width} channels, ${net.stage_px[s]} px`);
    const blocks = html(row, "div", "blocks");
    for (let b = 0; b < stage.max_depth; b++, slot++) {
      const used = b < depth, block = html(blocks, "span", used ? "block" : "block unused", used ? `k${net.arch.ks[slot]} e${net.arch.e[slot]}` : "unused");
      if (used) {
        block.style.background = `var(--s${s % 7})`;
        block.title = `kernel ${net.arch.ks[slot]}, expand ratio ${net.arch.e[slot]}`;
      }
    }
  });
}

const MODES = {
  ms: { title: "Latency in the table (ms)", of: (layer) => layer.ms, unit: "ms", scale: 1 },
  macs: { title: "MACs (millions)", of: (layer) => layer.macs / 1e6, unit: "M" },
  memory: { title: "Memory of feature maps (MB)", of: (layer) => layer.memory / 1e6, unit: "MB", peak: true },
};

function layersOf(net, d = deviceOf(net)) {
  return net.layers.map(([name, block], i) => ({ name, ms: net.on[d]?.layers?.[i], ...data.blocks[block] }));
}

// The device of the axis, or the first one, whose layers are known.
function deviceOf(net) {
  return [axis.device, ...devices.keys()].find((d) => net.on[d]?.layers);
}

let rows = null;
function showLayers() {
  const section = byId("layers-section"), net = networks[chosen];
  if (!section) return;
  section.hidden = net.layers.length === 0;
  if (section.hidden) return;
  const { title: words, of, unit, peak } = MODES[mode], layers = layersOf(net), total = layers.reduce((sum, layer) => sum + of(layer), 0);
  let sum = 0;
  const bars = layers.map((layer) => {
    const value = of(layer), from = peak ? 0 : sum;
    sum += value;
    return { label: layer.title ? `${layer.name} ${layer.title}` : layer.name, from, to: from + value, value: shown(value),
      colour: layer.stage === null ? "var(--grey)" : `var(--s${layer.stage % 7})`,
      text: `${layer.name}: ${shown(value, 4)} ${unit}${peak ? "" : `, ${(100 * value / total).toFixed(1)} % of the sum`}\n${layer.shape}\n`
        + `${shown(layer.ms, 4)} ms, ${shown(layer.macs / 1e6)} M MACs, ${shown(layer.params / 1e3)} k parameters, ${shown(layer.memory / 1e6)} MB` };
  });
  byId("layers-text").textContent = peak
    ? `Largest: ${shown(Math.max(...layers.map(of)), 4)} MB, for one batch. What a layer reads and writes, inner feature maps included.`
    : `${shown(total, 4)} ${unit} in sum${mode === "ms" ? `${devices.length > 1 ? ` on ${devices[deviceOf(net)].name}` : ""}, not calibrated` : ""}. Each bar begins where the layer before it ends. Grey layers are part of every sub-net.`;
  if (rows) rows.update(bars, words);
  else rows = drawRows(byId("layers"), { label: "Layers of the chosen network", x: words, rows: bars });
  document.querySelectorAll("[data-mode]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.mode === mode));
}

document.querySelectorAll("[data-mode]").forEach((button) => button.addEventListener("click", () => { mode = button.dataset.mode; showLayers(); }));

// ---- downloads and the rest ------------------------------------------------------------------------------------------

function csv(header, lines) { return [header, ...lines].map((line) => line.join(",")).join("\n") + "\n"; }
// Text in quotes; a program that opens the file computes nothing.
const quoted = (text) => `"${(/^[=+\-@\t\r]/.test(text) ? "'" : "") + String(text).replaceAll('"', '""')}"`;
const ARCH = ["ks", "e", "d", "r"], archCells = (net) => ARCH.map((n) => `"${JSON.stringify(net.arch[n])}"`);

byId("get-arch").addEventListener("click", () => {
  const { ks, e, d, r } = networks[chosen].arch, { schema, space, ...named } = data.named;
  download("arch.json", "application/json", `${JSON.stringify({ schema, space, wid: null, ks, e, d, r, ...named })}\n`);
});
byId("get-layers")?.addEventListener("click", () => {
  const net = networks[chosen], each = devices.map((_, d) => layersOf(net, d));
  const lines = each[0].map((l, i) => [l.name, quoted(l.shape), ...each.map((layers) => layers[i].ms ?? ""), l.macs, l.params, l.memory]);
  download("layers.csv", "text/csv", csv(["name", "shape", ...devices.map((d) => quoted(d.quantity)), "macs", "params", "memory_bytes"], lines));
});
byId("get-front").addEventListener("click", () => {
  const names = data.quantities.map((q) => q.name).filter((name) => networks.some((net) => net.values[name] !== undefined));
  const lines = networks.map((net) => [net.role, ...names.map((n) => net.values[n] ?? ""), ...archCells(net)]);
  download("networks.csv", "text/csv", csv(["role", ...names.map(quoted), ...ARCH], lines));
});
byId("get-devices").addEventListener("click", () => {
  const stages = ["first", ...data.stages.map((_, s) => `stage${s + 1}`), "last"].map((name) => `${name}_ms`);
  const lines = networks.flatMap((net) => devices.map((device, d) => {
    const on = net.on[d] ?? {}, measured = on.measured ?? ["", "", ""], parts = stageMs(net, d) ?? stages.map(() => "");
    return [net.role, quoted(net.title), quoted(device.name), quoted(device.words), on.ms ?? "", on.low ?? "", on.high ?? "", ...measured,
      device.limit ?? "", headroomOf(net, d) ?? "", ...parts, ...archCells(net)];
  }));
  download("devices.csv", "text/csv", csv(["role", "title", "device", "measured_with", "predicted_ms", "low_ms", "high_ms", "measured_ms",
    "measured_low_ms", "measured_high_ms", "limit_ms", "headroom_ms", ...stages, ...ARCH], lines));
});

if (data.measured) {
  drawPlot(byId("measured"), { ...data.measured, label: "Measured against predicted latency", square: true,
    x: "Predicted latency (ms per batch)", y: "Measured latency (ms per batch)" });
  byId("get-measured").addEventListener("click", () => {
    const lines = data.measured.series.filter((s) => s.kind === "points").flatMap((s) => s.points.map((p) => [s.name, p.x, p.y, p.low ?? "", p.high ?? "", `"${p.network}"`]));
    download("measured.csv", "text/csv", csv(["role", "predicted_ms", "measured_ms", "low_ms", "high_ms", "network"], lines));
  });
}
drawFront();
resetLimit();
choose(winner);
finishPage();
