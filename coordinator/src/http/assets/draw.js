// Elements, numbers as text, and drawings. Knows nothing of sweeps.

/** An element: `h("a", {href: "/"}, "text", child, …)`. `on…` are listeners. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "width%") element.style.width = `${value}%`;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

/** Replaces what is in an element; whatever had the focus has it again. */
export function replace(element, ...children) {
  const key = element.contains(document.activeElement) && document.activeElement.dataset.key;
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

const minus = (text) => text.replaceAll("-", "−");

/** Non-finite numbers come as strings. */
export function number(x) {
  return typeof x === "string" ? Number(x) : x;
}

export function count(n) {
  return n === null || n === undefined ? "–" : n.toLocaleString("en");
}

export function real(x, digits = 6) {
  x = number(x);
  if (x === null || x === undefined) return "–";
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "not a number" : x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  if (x !== 0 && (size < 1e-3 || size >= 1e6)) return minus(x.toExponential(Math.min(digits, 3))).replace("e+", "e");
  return minus(x.toPrecision(digits));
}

/** A difference: always with its sign. */
export function signed(x) {
  x = number(x);
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "+∞" : "−∞";
  if (x === 0) return "0";
  return (x < 0 ? "−" : "+") + minus(Math.abs(x).toExponential(1)).replace("e+", "e");
}

/** How far below a baseline: as a share of it, or as a difference where it is too near 0 for one. */
export function below(difference, baseline) {
  [difference, baseline] = [number(difference), number(baseline)];
  if (!Number.isFinite(difference) || !Number.isFinite(baseline)) return "";
  const [size, scale] = [Math.abs(difference), Math.abs(baseline)];
  if (scale > 1e-9 && size < 5e-4 * scale) return "on the baseline, to 0.05 %";
  const text = scale > 1e-9 ? `${((100 * size) / scale).toFixed(1)} %` : real(size, 2);
  return `${text} ${difference < 0 ? "above" : "below"} the baseline`;
}

export function percent(part, whole) {
  if (!whole) return "–";
  const share = (100 * part) / whole;
  return part === whole || share === 0 ? `${Math.round(share)} %` : `${Math.min(share, 99.9).toFixed(1)} %`;
}

export function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s < 1) return `${Math.round(1000 * s)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
  return `${Math.round(s / 86400)} days`;
}

export function rate(perSecond) {
  if (!perSecond) return "–";
  if (perSecond >= 1) return `${perSecond.toFixed(1)}/s`;
  if (perSecond * 60 >= 1) return `${(perSecond * 60).toFixed(1)}/min`;
  return `${(perSecond * 3600).toFixed(1)}/h`;
}

export function bytes(n) {
  if (!n) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) (n /= 1024), at++;
  return `${n.toFixed(at && n < 10 ? 1 : 0)} ${units[at]}`;
}

export function words(name) {
  return name.replaceAll("_", " ");
}

/** A text that may be long, in one line; the whole of it where the pointer rests. */
export function clip(text) {
  return text.length > 28 ? h("span", { class: "clip", title: text }, text) : text;
}

/** A bar of parts: `[name, count]`; the rest of `whole` stays empty. */
export function bar(parts, whole, thick = false) {
  const spans = parts.filter(([, n]) => n > 0).map(([name, n]) => h("span", { class: `f-${name}`, "width%": (100 * n) / whole }));
  return h("div", { class: thick ? "bar thick" : "bar", "aria-hidden": "true" }, spans);
}

/** A table: columns are `{name, num, narrow}`; a row's first value is its header. */
export function table(columns, rows, options = {}) {
  const kind = (c) => [c.num && "num", c.narrow && "hide-narrow"].filter(Boolean).join(" ") || null;
  const head = columns.map((c) => h("th", { scope: "col", class: kind(c) }, c.name));
  const body = rows.map((row) =>
    h("tr", {}, row.map((value, i) =>
      i === 0 ? h("th", { scope: "row", class: kind(columns[i]) }, value) : h("td", { class: kind(columns[i]) }, value))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": options.label ?? "Table" },
    h("table", { class: "wide" }, options.caption && h("caption", {}, options.caption),
      h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

const WIDTH = 760;
const LEFT = 64;

function ticks(low, high, n = 4) {
  const rough = (high - low) / n;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((m) => m * unit >= rough);
  const found = [];
  for (let x = Math.ceil(low / step) * step; x <= high + step * 1e-9 && found.length < 12; x += step) found.push(x);
  return found.map((x) => [x, minus(String(Number(x.toPrecision(10))))]);
}

/** How values are distributed, with a mark on the same axis. */
export function histogram({ low, high, baseline, counts }, label) {
  const [top, bottom, height] = [28, 150, 190];
  const x = (v) => LEFT + ((WIDTH - LEFT - 24) * (v - low)) / (high - low);
  const most = Math.max(...counts);
  const width = (x(high) - x(low)) / counts.length;
  const bars = counts.map((n, i) => n && svg("rect", {
    x: x(low) + i * width + 0.5, width: Math.max(width - 1, 1),
    y: bottom - ((bottom - top) * n) / most, height: ((bottom - top) * n) / most,
  })).filter(Boolean);
  const marks = ticks(low, high).map(([v, text]) => [
    svg("line", { class: "axis", x1: x(v), x2: x(v), y1: bottom, y2: bottom + 5 }),
    svg("text", { x: x(v), y: bottom + 20, "text-anchor": "middle" }, text)]);
  const line = baseline !== null && baseline !== undefined && [
    svg("line", { class: "mark", x1: x(baseline), x2: x(baseline), y1: top - 8, y2: bottom }),
    svg("text", { class: "mark-text", x: x(baseline) + (x(baseline) > WIDTH / 2 ? -6 : 6), y: top - 2,
      "text-anchor": x(baseline) > WIDTH / 2 ? "end" : "start" }, "baseline")];
  return svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label },
    svg("line", { class: "axis", x1: x(low), x2: x(high), y1: bottom, y2: bottom }),
    svg("text", { x: LEFT - 8, y: top + 4, "text-anchor": "end" }, count(most)),
    svg("text", { x: LEFT - 8, y: bottom, "text-anchor": "end" }, "0"),
    svg("g", { class: "bars" }, bars), marks, line,
    svg("text", { x: (x(low) + x(high)) / 2, y: height - 4, "text-anchor": "middle" }, "value of the minimum"));
}

/** Curves over the same axis; the vertical one is logarithmic where all values are positive. */
export function curves(points, series, xLabel, label) {
  const usable = points.map((p) => p.map(number));
  const [top, bottom, height] = [14, 210, 252];
  const most = Math.max(1, ...usable.map((p) => p[0]));
  const x = (v) => LEFT + ((WIDTH - LEFT - 24) * v) / most;
  const all = usable.flatMap((p) => series.map((s) => p[s.at])).filter((v) => Number.isFinite(v));
  const log = all.length > 0 && Math.min(...all) > 0 && Math.max(...all) > 50 * Math.min(...all);
  const scale = log ? Math.log10 : (v) => v;
  let [low, high] = [Math.min(...all.map(scale)), Math.max(...all.map(scale))];
  if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
  const y = (v) => bottom - ((bottom - top) * (scale(v) - low)) / (high - low);
  const lines = series.map((s, i) => svg("polyline", {
    class: i ? "line second" : "line",
    points: usable.filter((p) => Number.isFinite(p[s.at])).map((p) => `${x(p[0]).toFixed(1)},${y(p[s.at]).toFixed(1)}`).join(" "),
  }));
  const decade = Math.max(1, Math.ceil((high - low) / 6));
  const whole = [];
  for (let e = Math.ceil(low); e <= high; e += decade) whole.push([10 ** e, minus(`1e${e}`)]);
  const rows = log && whole.length > 1 ? whole : ticks(low, high).map(([v]) => { const w = log ? 10 ** v : v; return [w, real(w, 4)]; });
  return svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label },
    rows.map(([v, text]) => [
      svg("line", { class: "axis", x1: LEFT, x2: WIDTH - 24, y1: y(v), y2: y(v) }),
      svg("text", { x: LEFT - 8, y: y(v) + 4, "text-anchor": "end" }, text)]),
    ticks(0, most).map(([v, text]) => svg("text", { x: x(v), y: bottom + 20, "text-anchor": "middle" }, text)),
    lines, svg("text", { x: (LEFT + WIDTH) / 2, y: height - 6, "text-anchor": "middle" }, xLabel));
}
