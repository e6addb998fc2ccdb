// The dashboard: one page, its address says what is shown. See draw.js for how things are drawn.
//
// Whoever opens it shows a token once and gets a session, which lives in this origin's storage: a
// cookie would be sent to every port of the host, and other ports may be other people's.

import { bar, below, bytes, clip, count, curves, h, histogram, percent, rate, real, replace, seconds, signed, table, words } from "/draw.js";

const main = document.getElementById("main");
const $ = (id) => document.getElementById(id);
const KEY = "sweep-session";
let session = load();
let state = null;
let view = null;
let visit = 0;

function load() {
  try {
    return JSON.parse(localStorage.getItem(KEY));
  } catch {
    return null;
  }
}

function keep(value) {
  session = value;
  if (value) localStorage.setItem(KEY, JSON.stringify(value));
  else localStorage.removeItem(KEY);
  $("who").hidden = false;
  $("who").textContent = !value ? "Sign in" : value.may_change ? "Administrator · sign out" : "Reading only · sign in to change";
}

/** Thrown when a session is needed. */
class SignIn extends Error {}

async function call(path, options = {}) {
  const headers = session ? { Authorization: `Bearer ${session.session}` } : {};
  const response = await fetch(path, { ...options, headers, credentials: "omit" });
  if (response.status === 401) {
    keep(null);
    throw new SignIn();
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Error(body.error ?? `${response.status} ${response.statusText}`);
}

const get = async (path) => (await call(path)).json();
const post = async (path) => (await call(path, { method: "POST" })).json();

async function signIn(token) {
  const response = await fetch("/api/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
  if (!response.ok) throw new Error(response.status === 401 ? "This token opens nothing here." : "The coordinator does not answer.");
  keep(await response.json());
  watch();
}

// What is going on, as it changes.

let watching = null;

async function watch() {
  watching?.abort();
  const own = (watching = new AbortController());
  for (let pause = 1; !own.signal.aborted; pause = Math.min(2 * pause, 15)) {
    try {
      const response = await call("/api/events", { signal: own.signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) {
          const data = event.split("\n").find((line) => line.startsWith("data: "));
          if (data) show(JSON.parse(data.slice(6)));
        }
        pause = 1;
        link("live", "live");
      }
    } catch (error) {
      if (own.signal.aborted) return;
      if (error instanceof SignIn) return open();
    }
    link("lost", "not connected; trying again");
    await new Promise((after) => setTimeout(after, 1000 * pause));
  }
}

function link(kind, text) {
  $("link").className = `link ${kind}`;
  if ($("link").textContent !== text) $("link").textContent = text;
}

function show(now) {
  state = now;
  const alarm = now.store_failing
    ? "The store takes no records at the moment; nothing is acknowledged until it does."
    : now.role !== "leading" ? `This coordinator is ${now.role}: it shows nothing until it leads.` : "";
  $("alarm").hidden = !alarm;
  if ($("alarm").textContent !== alarm) $("alarm").textContent = alarm;
  view?.update?.(now);
}

let spoken = 0;

/** For screen readers: what has changed, and not too often. */
function speak(text) {
  if (Date.now() - spoken < 15_000) return;
  spoken = Date.now();
  $("spoken").textContent = text;
}

// Which page.

const ROUTES = [
  [/^\/$/, home],
  [/^\/workers$/, workers],
  [/^\/sweeps\/(\d+)$/, sweep],
  [/^\/sweeps\/(\d+)\/failures$/, failures],
  [/^\/sweeps\/(\d+)\/cells\/([0-9a-f]+)$/, cell],
  [/^\/sweeps\/(\d+)\/cells\/([0-9a-f]+)\/runs\/([0-9a-f]+)$/, run],
];

function go(path) {
  history.pushState(null, "", path);
  open(true);
}

async function open(moved = false) {
  const own = ++visit;
  view?.close?.();
  view = null;
  for (const a of document.querySelectorAll(".top nav a")) {
    const path = a.getAttribute("href");
    const here = path === "/" ? location.pathname === "/" || location.pathname.startsWith("/sweeps") : location.pathname === path;
    if (here) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  if (!session) return signPage();
  for (const [pattern, page] of ROUTES) {
    const found = location.pathname.match(pattern);
    if (!found) continue;
    const timer = setTimeout(() => own === visit && main.replaceChildren(h("p", { class: "waiting" }, "Reading …")), 300);
    try {
      const made = await page(...found.slice(1));
      if (own !== visit) return made.close?.();
      view = made;
      main.replaceChildren(...made.nodes.filter(Boolean));
      document.title = `${made.title} – sweeps`;
      if (moved) {
        scrollTo(0, 0);
        main.querySelector("h1")?.focus({ preventScroll: true });
      }
      if (state) view.update?.(state);
    } catch (error) {
      if (own !== visit) return;
      if (error instanceof SignIn) return signPage();
      main.replaceChildren(title("This cannot be shown"), h("p", {}, error.message), h("p", {}, a("/", "All sweeps")));
    } finally {
      clearTimeout(timer);
    }
    return;
  }
  main.replaceChildren(title("There is no such page"), h("p", {}, a("/", "All sweeps")));
}

addEventListener("popstate", () => open());
document.addEventListener("click", (event) => {
  const target = event.target.closest?.("a[data-link]");
  if (!target || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(target.getAttribute("href"));
});

const title = (text, ...more) => h("h1", { tabindex: "-1", "data-key": "title" }, text, ...more);
const a = (path, ...content) => h("a", { href: path, "data-link": true, "data-key": path }, ...content);
const crumbs = (...parts) => h("p", { class: "crumbs" }, parts.flatMap((p, i) => (i ? [" / ", p] : [p])));

function tiles(entries) {
  return h("dl", { class: "tiles" }, entries.filter(Boolean).map(([name, value, note, kind]) =>
    h("div", {}, h("dt", {}, name), h("dd", { class: kind ?? null }, value), h("small", {}, note ?? ""))));
}

function signPage(wrong = "") {
  link("", "");
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const error = h("p", { class: "error", role: "alert" }, wrong);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await signIn(input.value.trim());
      open(true);
    } catch (e) {
      error.textContent = e.message;
      input.select();
    }
  };
  main.replaceChildren(h("form", { class: "sign", onsubmit: submit },
    title("Sign in"),
    h("p", {}, "With the link that the coordinator printed when it started, or with a token: that of the dashboard to read, that of the administration to change."),
    h("label", { for: "token" }, "Token"), input, error, h("div", {}, h("button", {}, "Sign in"))));
  input.focus();
}

$("who").addEventListener("click", () => {
  if (session?.may_change) {
    call("/api/session", { method: "DELETE" }).catch(() => {});
    watching?.abort();
    keep(null);
  }
  visit++;
  view?.close?.();
  view = null;
  signPage();
});

/** Asks before what cannot be taken back. */
function ask(heading, text, yes) {
  $("ask-title").textContent = heading;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  $("ask").returnValue = "no";
  $("ask").showModal();
  return new Promise((answer) => $("ask").addEventListener("close", () => answer($("ask").returnValue === "yes"), { once: true }));
}

const many = (n, name) => `${count(n)} ${name}${n === 1 ? "" : "s"}`;
const triedAgain = (n) => `${many(n, "task")} ${n === 1 ? "is" : "are"} tried again.`;
const left = (time) => time?.text ?? "–";

const done = (m) => m.recorded + m.failed;
const at = (ms) => new Date(ms).toLocaleString();
const badge = (text) => h("span", { class: `badge ${text}` }, text);

// All sweeps.

async function home() {
  const box = h("div");
  const note = h("p", { class: "note" });
  const update = (now) => {
    const w = now.workers;
    note.textContent = `${many(w.attached, "worker")} with ${many(w.slots, "slot")}` +
      (w.draining ? `, ${count(w.draining)} leaving` : "") + (w.detached ? `, ${count(w.detached)} not connected` : "") + ".";
    const columns = [{ name: "Sweep" }, { name: "State" }, { name: "Progress" }, { name: "Done", num: true }, { name: "Rate", num: true, narrow: true },
      { name: "Time left", num: true, narrow: true }, { name: "Certified", num: true }, { name: "Above baseline", num: true },
      { name: "Worst excess", num: true }, { name: "Failed", num: true }];
    const rows = [...now.sweeps].reverse().map((s) => {
      const m = s.moment;
      return [a(`/sweeps/${s.number}`, s.name || `sweep ${s.number}`), badge(s.state),
        m ? bar([["done", m.recorded], ["failed", m.failed]], Math.max(m.planned, 1)) : "–",
        m ? `${count(done(m))} / ${count(m.planned)}` : "–", s.active ? rate(s.rate) : "–", s.active ? h("span", { title: s.left?.range ? `${s.left.range} (95 %)` : null }, left(s.left)) : "–",
        m ? count(m.certified) : "–", m ? h("span", { class: m.violations_inside ? "bad" : null }, count(m.violations)) : "–",
        m ? signed(m.worst_excess) : "–", m ? h("span", { class: m.failed ? "bad" : null }, count(m.failed)) : "–"];
    });
    replace(box, rows.length ? table(columns, rows, { label: "Sweeps" }) : h("p", { class: "empty" }, "No sweep yet: coordinator submit --grid FILE sends one."),
      now.not_shown > 0 && h("p", { class: "note" }, `${count(now.not_shown)} older ones are not shown; coordinator status lists them all.`));
  };
  return { title: "Sweeps", nodes: [title("Sweeps"), note, box], update };
}

// One sweep.

const MEASURES = {
  excess: "Worst excess",
  share: "Certified share",
  progress: "Progress",
};
const EXCESS = [["b5", "below −1e-1"], ["b4", "−1e-1 to −1e-2"], ["b3", "−1e-2 to −1e-4"], ["b2", "−1e-4 to −1e-6"], ["b1", "−1e-6 to the tolerance"],
  ["n0", "at the baseline"], ["o1", "the tolerance to +1e-6"], ["o2", "+1e-6 to +1e-4"], ["o3", "+1e-4 to +1e-2"], ["o4", "+1e-2 to +1e-1"], ["o5", "above +1e-1"]];
const SHARE = [["s0", "none"], ["s1", "under 25 %"], ["s2", "25 to 50 %"], ["s3", "50 to 75 %"], ["s4", "75 % and more"], ["s5", "all"]];
const VERDICTS = ["certified_minimum", "violation", "saddle", "kink", "diverging", "budget_exhausted", "non_finite"];
const MEANING = {
  holds: "Every minimum that was certified lies at or below its baseline.",
  violated: "A certified minimum lies above its baseline, inside the assumptions: look at it first.",
  inconclusive: "Too little is certified to say that the theorem holds.",
};
const TOO_EARLY = "Too little is certified so far to say that the theorem holds.";
const NOTHING_INSIDE = "No cell is inside the theorem's assumptions.";

/** What a sweep says of the theorem, in a sentence or two. */
function meaning(verdict, over, cells, outside) {
  const said = verdict !== "inconclusive" ? MEANING[verdict] ?? ""
    : cells > 0 && outside.cells === cells ? NOTHING_INSIDE : over ? MEANING.inconclusive : TOO_EARLY;
  const found = outside.cells ? `Outside the assumptions a bad minimum was found in ${count(outside.found)} of ${many(outside.cells, "cell")}.` : "";
  return [said, found].filter(Boolean).join(" ");
}

function shareStep(part, whole) {
  if (!part) return "s0";
  return part === whole ? "s5" : `s${1 + Math.min(3, Math.floor((4 * part) / whole))}`;
}

function square(number, heat, s, measure, filter) {
  const where = [heat.y.name && `${heat.y.name} ${heat.y.values[s.y]}`, heat.x.name && `${heat.x.name} ${heat.x.values[s.x]}`].filter(Boolean).join(", ");
  const finished = s.runs + s.failed;
  const texts = {
    excess: [s.excess_step ?? "none", s.excess_step ? signed(s.worst_excess) : s.runs ? "none" : "–"],
    share: [s.runs ? s.share_step : "none", s.runs ? `${count(s.certified)} / ${count(s.runs)}` : "–"],
    progress: [s.planned ? shareStep(finished, s.planned) : "none", s.planned ? percent(finished, s.planned) : count(finished)],
  };
  const [step, text] = texts[measure];
  const kind = [step, s.above && measure === "excess" ? "above" : ""].join(" ").trim();
  const label = `${where}: ${MEASURES[measure].toLowerCase()} ${text === "–" ? "of no run yet" : text}${s.cells > 1 ? `, of ${s.cells} cells` : ""}`;
  const path = s.cell ? `/sweeps/${number}/cells/${s.cell.slice(0, 16)}` : null;
  if (path) return h("a", { class: kind, href: path, "data-link": true, "data-key": `square ${s.x} ${s.y}`, "aria-label": label, title: label }, text);
  return h("button", { type: "button", class: kind, "data-key": `square ${s.x} ${s.y}`, "aria-label": `${label}; lists them`, title: label, onclick: () => filter(s) }, text);
}

function heatTable(number, heat, measure, filter) {
  const squares = new Map(heat.squares.map((s) => [`${s.x} ${s.y}`, s]));
  const [columns, rows] = [heat.x.values.length ? heat.x.values : [""], heat.y.values.length ? heat.y.values : [""]];
  const corner = [heat.y.name, heat.x.name].filter(Boolean).join(" ↓  ") + (heat.x.name ? " →" : "");
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Heat map" },
    h("table", { class: "heat" },
      h("caption", {}, `${MEASURES[measure]} by ${[heat.y.name, heat.x.name].filter(Boolean).join(" and ") || "cell"}`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "corner" }, corner), columns.map((c) => h("th", { scope: "col" }, clip(c))))),
      h("tbody", {}, rows.map((name, y) => h("tr", {}, h("th", { scope: "row" }, clip(name)),
        columns.map((_, x) => {
          const s = squares.get(`${x} ${y}`);
          return h("td", {}, s ? square(number, heat, s, measure, filter) : h("span", { class: "none", "aria-label": "no cell" }, ""));
        }))))));
}

function legend(measure) {
  const steps = measure === "excess" ? EXCESS : SHARE;
  return h("ul", { class: "legend" }, steps.map(([step, text]) => h("li", {}, h("span", { class: `swatch ${step}` }), text)));
}

function pager(page, size, total, turn) {
  const last = Math.max(0, Math.ceil(total / size) - 1);
  if (!last) return null;
  return h("div", { class: "pages" },
    h("button", { type: "button", class: "quiet", disabled: page === 0, "data-key": "before", onclick: () => turn(page - 1) }, "Before"),
    h("span", {}, `${count(page * size + 1)} – ${count(Math.min(total, (page + 1) * size))} of ${count(total)}`),
    h("button", { type: "button", class: "quiet", disabled: page === last, "data-key": "next", onclick: () => turn(page + 1) }, "Next"));
}

async function sweep(number) {
  const query = new URLSearchParams(location.search);
  let measure = query.get("show") in MEASURES ? query.get("show") : "excess";
  let axes = { x: query.get("x") ?? "", y: query.get("y") ?? "" };
  const path = () => `/api/sweeps/${number}?${new URLSearchParams(axes)}`;
  let data = await get(path());
  let [cellPage, only] = [0, null];
  const cellPath = () => `/api/sweeps/${number}/cells?${new URLSearchParams({ page: cellPage, ...only })}`;
  let cellData = await get(cellPath());
  let [readAt, busy, key] = [Date.now(), false, ""];

  const name = data.sweep.name || `sweep ${number}`;
  const head = h("div", { class: "head" });
  const message = h("p", { class: "error", role: "alert" });
  const facts = h("div");
  const heat = h("div");
  const controls = h("div", { class: "row" });
  const list = h("div");

  const read = async (fresh = false) => {
    if (busy) return;
    busy = true;
    try {
      data = await get(path());
      cellData = await get(cellPath());
      readAt = Date.now();
      draw();
    } catch (error) {
      if (fresh || error instanceof SignIn) throw error;
    } finally {
      busy = false;
    }
  };
  const remember = () => {
    const wanted = new URLSearchParams({ show: measure, x: data.heat.x.name, y: data.heat.y.name });
    history.replaceState(null, "", `?${wanted}`);
  };
  const choose = async (field, value) => {
    const other = field === "x" ? "y" : "x";
    axes = { x: data.heat.x.name, y: data.heat.y.name };
    if (axes[other] === value) axes[other] = axes[field];
    axes[field] = value;
    while (busy) await new Promise((after) => setTimeout(after, 20));
    await read();
    remember();
  };
  const filter = async (s) => {
    const { x, y } = data.heat;
    only = s && Object.fromEntries([["x", x.name], ["y", y.name], ["vx", x.values[s.x]], ["vy", y.values[s.y]]].filter(([, v]) => v));
    cellPage = 0;
    cellData = await get(cellPath());
    drawCells();
    $("cells").scrollIntoView({ block: "start" });
    $("cells").focus({ preventScroll: true });
  };
  const act = async (what) => {
    message.textContent = "";
    if (what === "cancel" && !(await ask("Give this sweep up?", "Tasks that are not recorded are not computed. What is recorded is kept; submitting the grid again takes it up.", "Cancel the sweep"))) return;
    try {
      const { tasks } = await post(`/api/sweeps/${number}/${what}`);
      if (what === "retry") message.textContent = triedAgain(tasks);
    } catch (error) {
      if (error instanceof SignIn) return signPage();
      message.textContent = error.message;
    }
  };
  const button = (what, text, kind = "quiet") => h("button", { type: "button", id: `do-${what}`, class: kind, "data-key": what, onclick: () => act(what) }, text);

  const picker = (field, text) => h("label", { class: "pick" }, text,
    h("select", { id: `axis-${field}`, onchange: (e) => choose(field, e.target.value) }, data.heat.fields.map((f) =>
      h("option", { value: f.name, selected: data.heat[field].name === f.name }, `${f.name} (${f.values})`))));
  const drawControls = () => controls.replaceChildren(
    h("fieldset", { class: "choice" }, h("legend", { class: "unseen" }, "What the map shows"), Object.entries(MEASURES).map(([value, text]) =>
      h("label", {}, h("input", { type: "radio", name: "measure", value, checked: value === measure, onchange: () => { measure = value; remember(); drawHeat(); } }), text))),
    ...(data.heat.fields.length > 1 ? [picker("y", "down"), picker("x", "across")] : []));
  const drawHeat = () => replace(heat, heatTable(number, data.heat, measure, filter),
    (data.heat.x.more > 0 || data.heat.y.more > 0) && h("p", { class: "note" }, "Only the first 100 values of each axis are shown."),
    data.heat.squares.some((s) => s.cells > 1) && h("p", { class: "note" }, "A square that stands for several cells shows the largest excess, and the sums of the rest; it lists them below."),
    legend(measure));
  const drawCells = () => replace(list, only && h("p", { class: "row" }, `Only ${[only.y && `${only.y} ${only.vy}`, only.x && `${only.x} ${only.vx}`].filter(Boolean).join(", ")}.`,
      h("button", { type: "button", class: "quiet", "data-key": "all", onclick: () => filter(null) }, "All cells")), table(
    [...cellData.fields.map((f) => ({ name: f })), ...(cellData.fields.length ? [] : [{ name: "cell" }]), { name: "runs", num: true }, { name: "certified", num: true }, { name: "baseline", num: true },
      { name: "worst minimum", num: true }, { name: "excess", num: true }, { name: "failed", num: true }, { name: "verdict" }],
    cellData.rows.map((r) => {
      const to = `/sweeps/${number}/cells/${r.cell.slice(0, 16)}`;
      const [first, ...rest] = r.values.length ? r.values : ["the only cell"];
      return [h("a", { href: to, "data-link": true, "data-key": `row ${r.cell}` }, clip(first)), ...rest.map(clip), count(r.runs), count(r.certified), real(r.baseline), real(r.worst), signed(r.excess),
        h("span", { class: r.failed ? "bad" : null }, count(r.failed)), r.runs + r.failed ? verdictText(r.verdict) : h("span", { class: "note" }, "not begun")];
    }), { label: "Cells", caption: `${count(cellData.count)} cells, largest excess first` }),
    pager(cellPage, cellData.page_size, cellData.count, async (page) => { cellPage = page; await read(); }));
  let fields = "";
  const draw = () => {
    const now = JSON.stringify(data.heat.fields) + data.heat.x.name + data.heat.y.name;
    if (now !== fields) {
      fields = now;
      drawControls();
    }
    drawHeat();
    drawCells();
    if (state) drawFacts(state);
  };

  const drawFacts = (now) => {
    const own = now.sweeps.find((s) => s.number === Number(number));
    const totals = data.totals;
    const m = own?.active ? own.moment : { planned: totals.planned, recorded: totals.recorded, failed: totals.failed, leased: 0,
      certified: totals.verdicts.certified_minimum + totals.verdicts.violation, violations: totals.verdicts.violation, violations_inside: data.violations_inside, worst_excess: data.overall.worst_excess };
    const verdicts = own?.verdicts ?? totals.verdicts;
    const status = own?.state ?? "";
    const changeable = session?.may_change && (now.only === null || now.only === Number(number));
    replace(head, title(name), status && badge(status), changeable && h("div", { class: "actions" },
      status === "running" && button("pause", "Pause"), status === "paused" && button("resume", "Resume", null),
      m.failed > 0 && status !== "cancelled" && button("retry", "Retry failed tasks"),
      (status === "running" || status === "paused") && button("cancel", "Cancel …", "quiet danger")));
    const verdict = data.overall.verdict;
    const over = !own?.active && !data.sweep.partial;
    const recorded = VERDICTS.reduce((n, v) => n + (verdicts[v] ?? 0), 0);
    replace(facts,
      h("p", { id: "verdict" }, h("strong", { class: verdict === "violated" ? "bad" : verdict === "holds" ? "good" : null }, over ? `${words(verdict)}. ` : `So far: ${words(verdict)}. `), meaning(verdict, over, data.cells, data.outside)),
      bar([["done", m.recorded], ["failed", m.failed]], Math.max(m.planned, 1), true),
      tiles([
        ["Done", percent(done(m), m.planned), `${count(done(m))} of ${count(m.planned)} tasks`],
        own?.active && ["Rate", rate(own.rate), "over the last half minute"],
        own?.active && ["Time left", left(own.left), status === "paused" ? "paused" : own.left?.range ? `${own.left.range} (95 %)` : "", "small"],
        own?.active && ["In workers' hands", count(m.leased), many(now.workers.attached, "worker")],
        ["Certified", count(m.certified), `${percent(m.certified, m.recorded)} of recorded`],
        ["Above the baseline", h("span", { class: m.violations_inside ? "bad" : null }, count(m.violations)), "certified, all cells"],
        ["Worst excess", signed(m.worst_excess), "inside the assumptions"],
        ["Failed", m.failed ? a(`/sweeps/${number}/failures`, h("span", { class: "bad" }, count(m.failed))) : "0", m.failed ? "" : h("a", { href: `/sweeps/${number}/failures`, "data-link": true }, "attempts")],
      ]),
      h("h2", {}, "How runs ended"),
      recorded ? bar(VERDICTS.map((v) => [v, verdicts[v] ?? 0]), recorded) : h("p", { class: "empty" }, "No run is recorded yet."),
      recorded > 0 && h("ul", { class: "legend" }, VERDICTS.filter((v) => verdicts[v]).map((v) => h("li", {}, h("span", { class: `swatch f-${v}` }), `${runWords(v, !m.violations_inside)} `, h("b", {}, count(verdicts[v]))))));
    if (own?.active) speak(`${percent(done(m), m.planned)} done, ${count(m.certified)} certified, ${count(m.failed)} failed`);
  };

  draw();
  return {
    title: name,
    nodes: [crumbs(a("/", "Sweeps")), head, message, facts,
      h("h2", {}, "Where the minima lie"),
      h("p", { class: "note" }, "Excess is the value of a minimum minus its baseline, the best classical model: blue below, orange above, grey on the baseline to the tolerance. Each square leads to its cell."),
      controls, heat, h("h2", { id: "cells", tabindex: "-1" }, "Cells"), list],
    update: (now) => {
      drawFacts(now);
      const own = now.sweeps.find((s) => s.number === Number(number));
      const seen = own ? `${own.state} ${own.active && done(own.moment)}` : "";
      if (seen !== key && Date.now() - readAt > 1500) {
        key = seen;
        read();
      }
    },
  };
}

/** The verdict of a run; outside the assumptions nothing is violated. */
const runWords = (verdict, outside) => (verdict === "violation" && outside ? "above the baseline" : words(verdict));

function verdictText(verdict) {
  const kind = verdict === "violated" || verdict === "bad_minimum_found" ? "bad" : verdict === "holds" ? "good" : null;
  return h("span", { class: kind }, words(verdict));
}

function sweepName(number) {
  const own = state?.sweeps.find((s) => s.number === Number(number));
  return own?.name || `sweep ${number}`;
}

const shown = (value) => (typeof value === "object" && value !== null
  ? Object.entries(value).map(([k, v]) => (k === "formula" ? shown(v) : `${k} ${shown(v)}`)).join(", ") : String(value));

function describe(cell) {
  const part = (name) => (cell[name] === undefined ? null : typeof cell[name] === "string" ? cell[name] : `${name} ${shown(cell[name])}`);
  return ["data", "body", "depth", "activation"].map(part).filter(Boolean).join(" · ") || "cell";
}

// One cell.

async function cell(number, id) {
  let [page, sort] = [0, "position"];
  const path = () => `/api/sweeps/${number}/cells/${id}?${new URLSearchParams({ page, sort })}`;
  let data = await get(path());
  const top = h("div");
  const runs = h("div");
  let timer = null;

  const drawTop = () => {
    const s = data.summary;
    const certified = s.verdicts.certified_minimum + s.verdicts.violation;
    replace(top,
      tiles([
        ["Verdict", verdictText(s.verdict), s.assumptions_broken.length ? "outside the assumptions" : "inside the assumptions", "small"],
        ["Runs", count(s.runs), `of ${count(data.planned)} planned`],
        ["Certified", count(certified), `${percent(certified, s.runs)} of recorded`],
        ["Baseline", real(s.baseline?.value), s.baseline ? words(s.baseline.status) : "not solved yet"],
        ["Worst minimum", s.worst ? a(`/sweeps/${number}/cells/${id}/runs/${s.worst.task}`, real(s.worst.value)) : "–", s.worst ? `excess ${signed(s.worst.excess)}` : ""],
        ["Median minimum", real(s.values?.median), s.median_improvement === null ? "" : below(s.median_improvement, s.baseline?.value)],
        ["On the baseline", count(s.at_baseline), s.trivial ? `${count(s.trivial)} with W V = 0` : ""],
        ["Failed", h("span", { class: s.failed ? "bad" : null }, count(s.failed)), ""],
      ]),
      s.assumptions_broken.length > 0 && h("p", {}, `Broken assumptions: ${s.assumptions_broken.join(", ")}.`),
      s.notes.length > 0 && h("p", { class: "note" }, s.notes.join(". ")),
      h("h2", {}, "The minima against the baseline"),
      data.distribution ? h("figure", {}, histogram(data.distribution, `Distribution of ${count(certified)} certified minima from ${real(data.distribution.low)} to ${real(data.distribution.high)}; baseline ${real(data.distribution.baseline)}`),
        quantiles(s.values)) : h("p", { class: "empty" }, "No certified minimum yet."),
      h("h2", {}, "By start"),
      table([{ name: "start" }, { name: "certified", num: true }, { name: "runs", num: true }, { name: "violations: at most (95 %)", num: true }, { name: "every uncertified run counted", num: true }],
        s.by_start.map((b) => [b.start, count(b.certified), count(b.runs), upper(b.violation_share_upper95), upper(b.worst_case_upper95)]), { label: "By start" }),
      h("details", {}, h("summary", {}, "The cell in the words of the grid"),
        table([{ name: "field" }, { name: "value" }], Object.entries(s.cell).map(([k, v]) => [k, shown(v)]), { label: "Fields" })));
  };
  const outside = data.summary.assumptions_broken.length > 0;
  const drawRuns = () => replace(runs,
    h("div", { class: "row" }, h("label", { class: "pick" }, "sorted by",
      h("select", { "data-key": "sort", id: "sort", onchange: (e) => { sort = e.target.value; page = 0; read(); } },
        Object.entries({ position: "place in the grid", value: "largest value", evaluations: "most work", verdict: "verdict" }).map(([v, text]) => h("option", { value: v, selected: v === sort }, text))))),
    table([{ name: "run" }, { name: "seed", num: true }, { name: "start" }, { name: "verdict" }, { name: "value", num: true }, { name: "excess", num: true }, { name: "‖∇‖", num: true, narrow: true }, { name: "evaluations", num: true, narrow: true }],
      data.runs.rows.map((r) => [a(`/sweeps/${number}/cells/${id}/runs/${r.task}`, h("span", { class: "mono" }, r.task.slice(0, 10))), String(r.seed), r.start,
        r.verdict ? h("span", { class: r.verdict === "violation" && !outside ? "bad" : null }, runWords(r.verdict, outside)) : r.set_aside ? h("span", { class: "bad" }, "failed") : "planned",
        real(r.value), signed(r.excess), real(r.gradient_norm, 2), count(r.evaluations)]), { label: "Runs" }),
    data.runs.left_out > 0 && h("p", { class: "note" }, `${count(data.runs.left_out)} more are not listed here.`),
    pager(page, data.runs.page_size, data.runs.count, (p) => { page = p; read(); }));
  const read = async () => {
    data = await get(path());
    drawTop();
    drawRuns();
  };
  drawTop();
  drawRuns();
  let seen = null;
  return {
    title: describe(data.summary.cell),
    nodes: [crumbs(a("/", "Sweeps"), a(`/sweeps/${number}`, data.sweep || `sweep ${number}`)), title(describe(data.summary.cell)), top, h("h2", {}, "Runs"), runs],
    update: (now) => {
      const own = now.sweeps.find((s) => s.number === Number(number));
      const recorded = own?.moment?.recorded;
      if (recorded === seen || timer) return;
      const first = seen === null;
      seen = recorded;
      if (!first) timer = setTimeout(() => { timer = null; read().catch(() => {}); }, 2500);
    },
    close: () => clearTimeout(timer),
  };
}

const upper = (x) => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(1)} %`);

function quantiles(values) {
  if (!values) return null;
  return h("details", {}, h("summary", {}, "The same in numbers"),
    table(["smallest", "lower quarter", "median", "upper quarter", "largest"].map((name) => ({ name, num: true })),
      [["min", "q25", "median", "q75", "max"].map((q) => real(values[q], 9))], { label: "Quantiles" }));
}

// One run.

const CERTIFICATE = [
  ["gradient_norm", "‖∇‖∞", "largest entry of the gradient"],
  ["newton_step", "Newton step", "how far a damped Newton step would move it"],
  ["min_eigenvalue", "λ min", "smallest eigenvalue of the Hessian, or the bound proved for it"],
  ["max_eigenvalue", "λ max", "largest eigenvalue of the Hessian"],
  ["eigenvalue_method", "by", "how the eigenvalue was bounded"],
  ["eigenvalue_failure_probability", "may miss", "probability that the bound missed a lower eigenvalue"],
  ["objective", "objective", "with all penalties"],
  ["value", "value", "the objective without the decay of the body: what stands beside the baseline"],
  ["induced_value", "induced", "minimum of the classical model on the representation reached"],
  ["gap_bound", "gap bound", "upper bound on value − baseline that the theory gives here"],
  ["norm_A", "‖A‖", "first optimality residual of the theory"],
  ["norm_B", "‖B‖", "second optimality residual of the theory"],
  ["sigma_min_W", "σ min (W)", "smallest singular value of W that is not zero by construction"],
  ["norm_theta", "‖θ‖", "all parameters"],
  ["norm_u", "‖u‖", "parameters of the body"],
  ["norm_W", "‖W‖", "the head"],
  ["norm_WV", "‖W V‖", "0 if the residual part has died"],
  ["kinks", "kinks", "kinks that the point sits on"],
  ["kink_margin", "kink margin", "distance of the nearest kink that it does not sit on"],
  ["kink_slack", "kink slack", "smallest slack of the multipliers at active kinks"],
  ["refuted", "refuted", "candidates that the escape test turned down"],
  ["refuted_excess", "refuted excess", "largest excess among them"],
  ["parameters", "parameters", ""],
  ["evaluations", "evaluations", "work, in objective-and-gradient evaluations"],
  ["gradients", "gradients", "of these"],
  ["products", "products", "Hessian-vector products"],
  ["hessians", "Hessians", "dense ones"],
];
const COUNTS = new Set(["kinks", "refuted", "parameters", "evaluations", "gradients", "products", "hessians"]);

async function run(number, id, task) {
  const data = await get(`/api/sweeps/${number}/cells/${id}/runs/${task}`);
  const r = data.run;
  const c = r.certificate;
  const rows = c ? CERTIFICATE.filter(([key]) => c[key] !== null && c[key] !== undefined).map(([key, name, text]) =>
    [name, typeof c[key] === "string" && !/nan|inf/i.test(c[key]) ? c[key] : COUNTS.has(key) ? count(c[key]) : real(c[key], 9), h("span", { class: "note" }, text)]) : [];
  const failed = r.failures ?? [];
  const outside = data.assumptions_broken.length > 0;
  const violates = r.verdict === "violation" && !outside;
  const heading = c ? runWords(r.verdict, outside) : r.state ?? "not recorded";
  return {
    title: `run ${task.slice(0, 10)}`,
    nodes: [
      crumbs(a("/", "Sweeps"), a(`/sweeps/${number}`, data.sweep || `sweep ${number}`), a(`/sweeps/${number}/cells/${id}`, describe(data.description))),
      h("div", { class: "head" }, title(`Run ${task.slice(0, 10)}`), h("span", { class: `badge ${violates ? "paused" : ""}` }, heading)),
      tiles([
        ["Value", real(c?.value), "of the end point"], ["Baseline", real(data.baseline?.value), data.baseline ? "the best classical model" : "not solved yet"],
        ["Excess", h("span", { class: violates ? "bad" : null }, signed(r.excess)), "value − baseline"],
        ["Seed", r.seed === null || r.seed === undefined ? "–" : String(r.seed), ""], ["Start", r.start ? shown(r.start) : "–", r.position === null ? "planned by the search" : "", "small"],
        ["Work", count(c?.evaluations), "evaluations"],
      ]),
      r.curve?.length > 1 && h("h2", {}, "Loss and gradient over the run"),
      r.curve?.length > 1 && h("figure", {},
        h("ul", { class: "legend" }, h("li", {}, h("span", { class: "swatch b4" }), "objective")),
        curves(r.curve, [{ at: 1 }], "evaluations", `Objective over ${count(c.evaluations)} evaluations, from ${real(r.curve[0][1])} to ${real(r.curve.at(-1)[1])}`),
        h("ul", { class: "legend" }, h("li", {}, h("span", { class: "swatch b4" }), "‖∇‖∞")),
        curves(r.curve, [{ at: 2 }], "evaluations", `Largest entry of the gradient, from ${real(r.curve[0][2])} to ${real(r.curve.at(-1)[2])}`),
        h("details", {}, h("summary", {}, "The curves in numbers"),
          table([{ name: "evaluations", num: true }, { name: "objective", num: true }, { name: "‖∇‖∞", num: true }], r.curve.map((p) => [count(p[0]), real(p[1], 7), real(p[2], 4)]), { label: "Curve" }))),
      h("h2", {}, "Certificate"),
      rows.length ? table([{ name: "" }, { name: "value" }, { name: "what it is", narrow: true }], rows, { label: "Certificate" }) : h("p", { class: "empty" }, `Nothing is recorded: ${r.state ?? "unknown"}.`),
      h("h2", {}, "Attempts that failed"),
      failed.length ? failureTable(failed) : h("p", { class: "empty" }, "None."),
      h("h2", {}, "Compute it again"),
      r.position !== null ? h("pre", {}, `worker run --grid GRID.yaml --task ${r.position}`) : h("p", {}, "It was planned by the search, and the grid does not have it. If it is among the minima that are kept (with --minima all each is), in the folder of the results: ", h("code", {}, `worker run --minimum minima/${task}.json`), "."),
      h("details", {}, h("summary", {}, "Identity and specification"),
        table([{ name: "field" }, { name: "value" }], [["task", h("span", { class: "mono long" }, task)], ...Object.entries(data.description).map(([k, v]) => [k, shown(v)])], { label: "Specification" })),
    ],
  };
}

function failureTable(rows, withTask = false) {
  return table([{ name: "attempt" }, ...(withTask ? [{ name: "task" }] : []), { name: "why" }, { name: "said" }, { name: "worker", narrow: true }, { name: "when" }, { name: "" }],
    rows.map((f) => [f.attempt, ...(withTask ? [h("span", { class: "mono" }, f.task.slice(0, 10))] : []), words(f.kind), h("span", { class: "long" }, f.message),
      h("span", { class: "mono" }, String(f.worker).slice(0, 10)), at(f.failed_at ?? f.failed_at_ms), f.set_aside ? "set aside" : ""]), { label: "Failures" });
}

// Failures of a sweep.

async function failures(number) {
  const box = h("div");
  const message = h("p", { role: "status" });
  let timer = null;
  // What fails again at once may do so between two events, and then no event tells of it.
  const again = (pause) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      read().catch(() => {});
      if (pause < 60_000) again(2 * pause);
    }, pause);
  };
  const read = async () => {
    const data = await get(`/api/sweeps/${number}/failures`);
    const may = session?.may_change && (state?.only === null || state?.only === Number(number));
    const retry = async () => {
      try {
        const { tasks } = await post(`/api/sweeps/${number}/retry`);
        message.textContent = triedAgain(tasks);
        await read();
        again(1000);
      } catch (error) {
        if (error instanceof SignIn) return signPage();
        message.textContent = error.message;
      }
    };
    replace(box,
      tiles([["Failed executions", count(data.count), ""], ["Tasks set aside", count(data.set_aside), "not tried again by themselves"], ...Object.entries(data.kinds).map(([kind, n]) => [words(kind), count(n), ""])]),
      data.set_aside > 0 && (may ? h("p", {}, h("button", { type: "button", id: "do-retry", "data-key": "retry", onclick: retry }, "Try them again"))
        : h("p", { class: "note" }, "With the administration token they can be tried again from here.")),
      data.rows.length ? failureTable(data.rows, true) : h("p", { class: "empty" }, "Nothing has failed."),
      data.count > data.rows.length && h("p", { class: "note" }, `The last ${count(data.rows.length)} of ${count(data.count)}.`));
  };
  await read();
  let seen = null;
  return {
    title: "Failures",
    nodes: [crumbs(a("/", "Sweeps"), a(`/sweeps/${number}`, sweepName(number))), title("Failures"), message, box],
    update: (now) => {
      const failed = now.sweeps.find((s) => s.number === Number(number))?.moment?.failed;
      if (seen !== null && failed !== seen) read().catch(() => {});
      seen = failed;
    },
    close: () => clearTimeout(timer),
  };
}

// Workers.

async function workers() {
  let page = 0;
  const box = h("div");
  const read = async () => {
    const data = await get(`/api/workers?page=${page}`);
    replace(box, data.rows.length ? table(
      [{ name: "Worker" }, { name: "Host" }, { name: "State" }, { name: "Slots", num: true }, { name: "Holds", num: true }, { name: "Rate", num: true }, { name: "A task takes", num: true },
        { name: "Memory", num: true }, { name: "Last heartbeat", num: true }, { name: "Version", narrow: true }],
      data.rows.map((w) => [w.name, w.host, badge(w.state), count(w.slots), count(w.held), rate(w.rate), seconds(w.task_seconds), bytes(w.memory),
        w.silent_seconds < 1 ? "now" : `${seconds(w.silent_seconds)} ago`, w.version]), { label: "Workers" })
      : h("p", { class: "empty" }, "No worker has come yet."),
      pager(page, data.page_size, data.count, (p) => { page = p; read(); }));
  };
  await read();
  const timer = setInterval(() => read().catch(() => {}), 2000);
  return { title: "Workers", nodes: [title("Workers"), box], close: () => clearInterval(timer) };
}

// Begin: a link with a token in it signs in, and the token leaves the address at once.

const given = location.hash.match(/^#token=(.+)$/);
keep(session);
if (given) {
  history.replaceState(null, "", location.pathname + location.search);
  try {
    await signIn(decodeURIComponent(given[1]));
    open();
  } catch (error) {
    keep(null);
    signPage(error.message);
  }
} else {
  open();
  if (session) watch();
}
