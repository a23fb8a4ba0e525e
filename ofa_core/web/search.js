// The report of a search: choose a network on the front or by a limit, and see its stages and layers.
"use strict";

const data = pageData();
const byId = (id) => document.getElementById(id);
const cost = data.cost, objective = data.objective;
const front = data.networks.map((net, i) => ({ net, i })).filter(({ net }) => net.role === "front");
const winner = data.networks.findIndex((net) => net.role === "winner");
const title = (words) => words.unit ? `${words.label[0].toUpperCase()}${words.label.slice(1)} (${words.unit})` : words.label;
const withUnit = (words, value) => `${shown(value, 4)}${words.unit ? ` ${words.unit}` : ""}`;
const better = objective.direction === "max" ? (a, b) => a > b : (a, b) => a < b;
let chosen = winner, limit = data.limit, mode = "ms";

function pointOf(net, i) {
  const point = { x: net.values[cost.name], y: net.values[objective.name], key: i,
    text: `${net.title}\n${cost.label} ${withUnit(cost, net.values[cost.name])}, ${objective.label} ${withUnit(objective, net.values[objective.name])}\n${net.text.replaceAll(" ", "\n")}` };
  if (net.role === "winner" && net.low !== null && cost.name === "latency_ms") { point.lowX = net.low; point.highX = net.high; }
  return point;
}

function pointsOf(role) {
  return data.networks.map(pointOf).filter((_, i) => data.networks[i].role === role);
}

function limitText() { return limit === null ? "none" : `${Number(limit.toPrecision(4))} ${cost.unit}`; }

function guidesOf() {
  if (limit === null) return [];
  const own = limit === data.limit;
  return [{ axis: "x", value: limit, text: `${own ? "limit" : "what if"} ${limitText()}`,
    colour: own ? "var(--red)" : "var(--grey)" }];
}

const plot = drawPlot(byId("front"), {
  label: `${objective.label} against ${cost.label} of ${data.networks.length} networks`, x: title(cost), y: title(objective),
  series: [
    { kind: "line", name: "front", colour: "var(--blue)", step: true, points: front.map(({ net }) => [net.values[cost.name], net.values[objective.name]]) },
    { kind: "points", name: "", colour: "var(--blue)", shape: "circle", size: 3.5, points: pointsOf("front") },
    { kind: "points", name: "other candidates", colour: "var(--orange)", shape: "ring", size: 4.5, points: pointsOf("candidate") },
    { kind: "points", name: "winner", colour: "var(--orange)", shape: "star", size: 10, points: pointsOf("winner") },
  ],
  guides: guidesOf(),
  onPick: choose,
});

function choose(i) {
  chosen = i;
  const net = data.networks[i], panel = byId("chosen");
  plot.update(guidesOf(), i);
  panel.replaceChildren();
  html(panel, "h3", "", net.title);
  const values = html(panel, "div", "chosen-values");
  for (const words of data.quantities) {
    if (net.values[words.name] === undefined) continue;
    const entry = html(values, "span");
    html(entry, "b", "", withUnit(words, net.values[words.name]));
    const change = net.values[words.name] - data.networks[winner].values[words.name];
    entry.append(` ${words.label}`, i === winner || !change ? "" : ` (${change > 0 ? "+" : "\u2212"}${shown(Math.abs(change), 3)})`);
  }
  if (net.low !== null) html(values, "span", "", `90 % interval ${shown(net.low, 4)} to ${shown(net.high, 4)} ms`);
  html(panel, "code", "", net.text);
  drawStages(html(panel, "div", "stages"), net);
  byId("winner").disabled = i === winner;
  showLayers();
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

function layersOf(net) {
  return net.layers.map(([name, block, ms]) => ({ name, ms, ...data.blocks[block] }));
}

let rows = null;
function showLayers() {
  const section = byId("layers-section"), net = data.networks[chosen];
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
    : `${shown(total, 4)} ${unit} in sum${mode === "ms" ? ", not calibrated" : ""}. Each bar begins where the layer before it ends. Grey layers are part of every sub-net.`;
  if (rows) rows.update(bars, words);
  else rows = drawRows(byId("layers"), { label: "Layers of the chosen network", x: words, rows: bars });
  document.querySelectorAll("[data-mode]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.mode === mode));
}

document.querySelectorAll("[data-mode]").forEach((button) => button.addEventListener("click", () => { mode = button.dataset.mode; showLayers(); }));

const slider = byId("limit"), said = byId("limit-said");
if (front.length > 1) {
  const ends = [front[0].net.values[cost.name], front.at(-1).net.values[cost.name]];
  const steps = 1000, at = (value) => Math.round((value - ends[0]) / (ends[1] - ends[0]) * steps);
  slider.max = steps;
  slider.defaultValue = data.limit === null ? steps : at(data.limit);
  said.textContent = limitText();
  slider.addEventListener("input", () => {
    limit = ends[0] + slider.value / steps * (ends[1] - ends[0]);
    said.textContent = limitText();
    const within = data.networks.map((net, i) => ({ net, i })).filter(({ net }) => net.role !== "candidate" && net.values[cost.name] <= limit * (1 + 1e-9));
    if (within.length) choose(within.reduce((best, one) => better(one.net.values[objective.name], best.net.values[objective.name]) ? one : best).i);
  });
} else byId("limit-row").hidden = true;

byId("winner").addEventListener("click", () => {
  limit = data.limit;
  slider.value = slider.defaultValue;
  said.textContent = limitText();
  choose(winner);
});

function csv(header, lines) { return [header, ...lines].map((line) => line.join(",")).join("\n") + "\n"; }

byId("get-arch").addEventListener("click", () => {
  const { ks, e, d, r } = data.networks[chosen].arch, { schema, space, ...named } = data.named;
  download("arch.json", "application/json", `${JSON.stringify({ schema, space, wid: null, ks, e, d, r, ...named })}\n`);
});
byId("get-layers")?.addEventListener("click", () => {
  const lines = layersOf(data.networks[chosen]).map((l) => [l.name, `"${l.shape}"`, l.ms, l.macs, l.params, l.memory]);
  download("layers.csv", "text/csv", csv(["name", "shape", "latency_ms", "macs", "params", "memory_bytes"], lines));
});
byId("get-front").addEventListener("click", () => {
  const names = data.quantities.map((q) => q.name).filter((name) => data.networks.some((net) => net.values[name] !== undefined));
  const lines = data.networks.map((net) => [net.role, ...names.map((n) => net.values[n] ?? ""), ...["ks", "e", "d", "r"].map((n) => `"${JSON.stringify(net.arch[n])}"`)]);
  download("networks.csv", "text/csv", csv(["role", ...names, "ks", "e", "d", "r"], lines));
});

if (data.measured) {
  drawPlot(byId("measured"), { ...data.measured, label: "Measured against predicted latency", square: true,
    x: "Predicted latency (ms per batch)", y: "Measured latency (ms per batch)" });
  byId("get-measured").addEventListener("click", () => {
    const lines = data.measured.series.filter((s) => s.kind === "points").flatMap((s) => s.points.map((p) => [s.name, p.x, p.y, p.low ?? "", p.high ?? "", `"${p.network}"`]));
    download("measured.csv", "text/csv", csv(["role", "predicted_ms", "measured_ms", "low_ms", "high_ms", "network"], lines));
  });
}
choose(winner);
finishPage();
