"use strict";
// The page's script. Names from data reach the page as text nodes only; nothing is fetched.
const documentData = JSON.parse(document.getElementById("document").textContent);
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const PAGE = 50;
const MOST_POINTS = 3000;
const BLUE = "#0072B2";

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const minus = (text) => text.replace("-", "\u2212");
const three = (value) => (Number.isFinite(value) ? minus(value.toFixed(3)) : "–");
const small = (value) => {
  if (!Number.isFinite(value)) return "–";
  return value < 1e-4 ? "< 0.0001" : String(Number(value.toPrecision(2)));
};

// ---------------------------------------------------------------- saving
function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A spreadsheet runs text that begins with one of these: an apostrophe goes before it.
function cell(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function csv(rows) {
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

const saveCsv = (rows, name) => save(new Blob([csv(rows)], { type: "text/csv" }), name + ".csv");

// ---------------------------------------------------------------- theme
const THEMES = ["auto", "light", "dark"];
const themeButton = find("#theme");
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  themeButton.textContent = "Theme: " + theme;
  try { localStorage.setItem("wellbench-theme", theme); } catch { /* a page from disk may have no storage */ }
}
themeButton.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme;
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
try { const kept = localStorage.getItem("wellbench-theme"); if (THEMES.includes(kept)) setTheme(kept); } catch { /* none */ }

// ---------------------------------------------------------------- sortable tables
const collator = new Intl.Collator("en", { numeric: true });
function sortKey(td) {
  const key = td.dataset.key ?? td.textContent.trim();
  const plain = key.replace("\u2212", "-").replace(/^[<≥]\s*/, "");
  if (key === "" || key === "–") return null;
  const number = Number(plain.replace(/\s*%$/, ""));
  return Number.isNaN(number) ? key : number;
}
function sortTable(table, column, direction) {
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row, i) => [sortKey(row.cells[column]), i, row]);
  keyed.sort(([a, i], [b, j]) => {
    if (a === null || b === null) return (a === null) - (b === null) || i - j;
    const order = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
    return order * direction || i - j;
  });
  body.append(...keyed.map(([, , row]) => row));
}
function makeSortable(table) {
  all("thead th", table).forEach((th, column) => {
    const button = make("button", { type: "button" }, ...th.childNodes);
    th.append(button);
    button.addEventListener("click", () => {
      const falling = th.getAttribute("aria-sort") !== "descending";
      all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
      th.setAttribute("aria-sort", falling ? "descending" : "ascending");
      sortTable(table, column, falling ? -1 : 1);
    });
  });
}
all("table.sortable").forEach(makeSortable);
function tableRows(table) {
  const read = (cells) => [...cells].map((c) => {
    const key = c.dataset.key;
    return key !== undefined && key !== "" && !Number.isNaN(Number(key)) ? Number(key) : c.innerText.trim().replace(/ [↕↑↓]$/, "");
  });
  return [[...table.tHead.rows[0].cells].map((c) => c.textContent.trim()), ...[...table.tBodies[0].rows].map((r) => read(r.cells))];
}

// ---------------------------------------------------------------- figures
const rowsOf = (() => {
  const known = new Map();
  let data = null;
  return (name) => {
    if (known.has(name)) return known.get(name);
    data ??= JSON.parse(document.getElementById("data").textContent);
    const { length, columns } = data[name];
    const read = Object.entries(columns).map(([field, values]) =>
      Array.isArray(values) ? [field, (i) => values[i]] : [field, (i) => values.levels[values.codes[i]]]);
    const rows = Array.from({ length }, (_, i) => Object.fromEntries(read.map(([field, at]) => [field, at(i)])));
    known.set(name, rows);
    return rows;
  };
})();

// Lines and letters take the page's colour, so a change of theme, or of paper, redraws nothing.
function look(ink) {
  const faint = { gridColor: ink, gridOpacity: 0.13, domainColor: ink, domainOpacity: 0.4, tickColor: ink, tickOpacity: 0.4 };
  const letters = { labelColor: ink, titleColor: ink };
  return {
    background: "transparent",
    font: "system-ui, sans-serif",
    axis: { ...faint, ...letters, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 12 },
    legend: { ...letters, titleFontWeight: "normal", orient: "bottom", columns: 4, labelLimit: 160 },
    header: { ...letters, titleFontWeight: "normal" },
    title: { color: ink, subtitleColor: ink },
    text: { fill: ink },
    rule: { stroke: ink },
    view: { stroke: "transparent" },
  };
}
function specOf(figure, ink) {
  const datasets = Object.fromEntries(figure.data.map((name) => [name, structuredClone(rowsOf(name))]));
  return { ...structuredClone(figure.spec), datasets: { ...datasets, ...(figure.inline ?? {}) }, config: look(ink) };
}
// The drawing library is read when the first figure is drawn: the page can be used before.
let library = null;
function vegaEmbedded(...given) {
  library ??= new Function(document.getElementById("library").textContent + "\nreturn window.vegaEmbed;")();
  return library(...given);
}
async function draw(container, figure) {
  container.dataset.drawn = "yes";
  await vegaEmbedded(container, specOf(figure, "currentColor"), {
    mode: "vega-lite", actions: false, renderer: "svg", ast: false, tooltip: { sanitize: (v) => escapeText(v) },
  });
}
function escapeText(value) {
  return String(value).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
}
// Saved on white with black letters, whatever the page's theme, at a width of its own.
async function exportFigure(figure, kind) {
  const spec = specOf(figure, "#111111");
  spec.config.background = "white";
  if (spec.width === "container") spec.width = 560;
  spec.title = figure.title;
  const { view, finalize } = await vegaEmbedded(make("div"), spec, { mode: "vega-lite", actions: false, renderer: "svg" });
  if (kind === "svg") save(new Blob([await view.toSVG()], { type: "image/svg+xml" }), figure.name + ".svg");
  else {
    const canvas = await view.toCanvas(2);
    save(await new Promise((done) => canvas.toBlob(done)), figure.name + ".png");
  }
  finalize();
}
function figureRows(figure) {
  const sets = figure.inline ? Object.values(figure.inline) : figure.data.map(rowsOf);
  const rows = sets.reduce((most, set) => (set.length > most.length ? set : most), []);
  const fields = rows.length ? Object.keys(rows[0]) : [];
  return [fields, ...rows.map((row) => fields.map((field) => row[field]))];
}

const waiting = new Map();
all("[data-figure]").forEach((node) => {
  const figure = documentData.figures[node.dataset.figure];
  const container = find(".chart", node);
  waiting.set(node, () => draw(container, figure));
  all("[data-save]", node).forEach((button) => button.addEventListener("click", () => {
    if (button.dataset.save === "csv") saveCsv(figureRows(figure), figure.name);
    else exportFigure(figure, button.dataset.save);
  }));
  const details = find(".as-table", node);
  details.addEventListener("toggle", () => {
    if (!details.open || find("table", details)) return;
    const [fields, ...rows] = figureRows(figure);
    const shown = rows.slice(0, 200);
    const text = (v) => (typeof v === "number" ? minus(String(Number(v.toPrecision(4)))) : v === null || v === undefined ? "–" : String(v));
    const table = make("table", {},
      make("thead", {}, make("tr", {}, ...fields.map((f) => make("th", { scope: "col" }, f)))),
      make("tbody", {}, ...shown.map((row) => make("tr", {}, ...row.map((v) => make("td", {}, text(v)))))));
    details.append(make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": figure.title + ", data" }, table));
    if (rows.length > shown.length) details.append(make("p", { class: "caption" }, `The first ${shown.length} of ${rows.length} rows; the CSV has all.`));
  });
});
// Those on the screen first, the others while nothing else is to do.
function drawNow(node) {
  const job = waiting.get(node);
  waiting.delete(node);
  return job ? job() : null;
}
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); drawNow(entry.target); }
}, { rootMargin: "300px" });
const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 30));
async function drawRest() {
  const next = waiting.keys().next();
  if (next.done) { document.documentElement.dataset.figures = "drawn"; return; }
  await drawNow(next.value);
  idle(drawRest);
}
window.addEventListener("beforeprint", () => all("details:not(.as-table)").forEach((d) => { d.open = true; }));

all("[data-save='csv']").forEach((button) => {
  const holder = button.closest(".figure, section");
  if (holder.dataset.figure) return;
  const table = find("table.sortable", holder);
  // The ranked table shows several numbers in a cell; its CSV has a column for each.
  const board = button.dataset.table === "board" && documentData.boards[Number(holder.id.replace("board-", "")) - 1].ranked;
  button.addEventListener("click", () => saveCsv(board ? [board.columns, ...board.rows] : tableRows(table), table.dataset.name));
});
all("button.copy").forEach((button) => button.addEventListener("click", async () => {
  const code = find("code", button.parentElement);
  try { await navigator.clipboard.writeText(code.textContent); button.textContent = "Copied"; }
  catch { getSelection().selectAllChildren(code); button.textContent = "Selected"; }
}));

// ---------------------------------------------------------------- readouts
async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}
const unpacked = new Map();
// Runs of a board; the last element holds what belongs to the readouts alone.
function unpack(number) {
  if (!unpacked.has(number)) unpacked.set(number, (async () => {
    const board = documentData.boards[number];
    const size = documentData.panels[board.panel].length;
    const buffer = await inflate(board.block);
    let at = 0;
    const numbers = () => {
      const codes = new DataView(buffer, at, 2 * size);
      const values = new Float64Array(size);
      for (let g = 0; g < size; g += 1) {
        const code = codes.getInt16(2 * g, true);
        values[g] = code === -32768 ? NaN : code / 10000;
      }
      at += 2 * size;
      return values;
    };
    const runs = board.runs.map((run, i) => {
      const own = {};
      for (const column of ["skill", "q", "q_controls"]) {
        const values = numbers();
        for (const [g, value] of Object.entries(board.outside[`${i}/${column}`] ?? {})) values[g] = value;
        own[column] = values;
      }
      own.flags = new Uint8Array(buffer, at, size);
      at += size;
      return own;
    });
    const ceiling = numbers();
    return { runs, ceiling: ceiling.some(Number.isFinite) ? ceiling : null };
  })());
  return unpacked.get(number);
}
function ranks(values) {
  const order = [...values.keys()].filter((i) => Number.isFinite(values[i])).sort((a, b) => values[b] - values[a] || a - b);
  const out = new Int32Array(values.length);
  order.forEach((g, i) => { out[g] = i + 1; });
  return out;
}

const ui = Object.fromEntries(["board", "run", "rival", "text", "filter", "count", "table", "first", "back", "next", "last", "csv", "draw", "scatter"].map((n) => [n, find("#q-" + n)]));
const state = { board: 0, sort: "rank", direction: 1, page: 0, list: [], data: null, rank: null };
const boardOf = () => documentData.boards[state.board];
const namesOf = () => documentData.panels[boardOf().panel];

function option(value, text, selected) {
  const node = make("option", { value }, text);
  node.selected = selected;
  return node;
}
function fillRuns() {
  const { runs } = boardOf();
  const first = Math.max(0, runs.findIndex((r) => r.role === "entrant"));
  const second = runs.findIndex((r, i) => i !== first && r.role === "entrant");
  ui.run.replaceChildren(...runs.map((r, i) => option(i, r.label, i === first)));
  const rival = second >= 0 ? second : runs.findIndex((_, i) => i !== first);
  ui.rival.replaceChildren(option(-1, "nobody", rival < 0), ...runs.map((r, i) => option(i, r.label, i === rival)));
}
const COLUMNS = {
  readout: { text: "Readout", value: (g) => namesOf()[g] },
  skill: { text: () => boardOf().metric, value: (g, a) => a.skill[g], show: three },
  rank: { text: "Rank among readouts", value: (g) => state.rank[g] || NaN, show: (v) => (Number.isFinite(v) ? String(v) : "–") },
  q: { text: "q, against the floor", value: (g, a) => a.q[g], show: small },
  controls: { text: "q, against controls", value: (g, a) => a.q_controls[g], show: small },
  found: { text: "Found", value: (g, a) => a.flags[g], show: (v) => ["–", "predictable", "–", "beyond controls"][v] ?? "–" },
  rival: { text: "Rival", value: (g, a, b) => (b ? b.skill[g] : NaN), show: three },
  difference: { text: "Difference", value: (g, a, b) => (b ? a.skill[g] - b.skill[g] : NaN), show: three },
};
const chosen = () => [state.data.runs[Number(ui.run.value)], state.data.runs[Number(ui.rival.value)] ?? null];

async function load() {
  state.board = Number(ui.board.value);
  state.data = await unpack(state.board);
  refresh();
}
function refresh() {
  const [a] = chosen();
  state.rank = ranks(a.skill);
  const wanted = ui.text.value.trim().toLowerCase();
  const open = boardOf().open;
  const keep = {
    all: () => true, predictable: (g) => a.flags[g] & 1, beyond: (g) => a.flags[g] & 2,
    open: (g) => Object.hasOwn(open, namesOf()[g]),
  }[ui.filter.value];
  state.list = [...namesOf().keys()].filter((g) => keep(g) && (!wanted || namesOf()[g].toLowerCase().includes(wanted)));
  order();
}
function order() {
  const [a, b] = chosen();
  const { value } = COLUMNS[state.sort];
  const keyed = state.list.map((g) => [value(g, a, b), g]);
  keyed.sort(([x, g], [y, h]) => {
    if (typeof x === "string") return collator.compare(x, y) * state.direction || g - h;
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || g - h;
    return (x - y) * state.direction || g - h;
  });
  state.list = keyed.map(([, g]) => g);
  state.page = 0;
  show();
}
function show() {
  const [a, b] = chosen();
  const pages = Math.max(1, Math.ceil(state.list.length / PAGE));
  const from = state.page * PAGE;
  ui.count.textContent = state.list.length
    ? `${state.list.length} of ${namesOf().length} readouts, ${from + 1} to ${Math.min(from + PAGE, state.list.length)} shown`
    : `No readout of ${namesOf().length} fits.`;
  const heads = Object.entries(COLUMNS).map(([name, column]) => {
    const th = make("th", { scope: "col", "aria-sort": state.sort === name ? (state.direction > 0 ? "ascending" : "descending") : null });
    th.append(make("button", { type: "button", onclick: () => {
      state.direction = state.sort === name ? -state.direction : ["readout", "rank", "q", "controls"].includes(name) ? 1 : -1;
      state.sort = name;
      order();
      find(`[data-column="${name}"] button`, ui.table).focus();
    } }, typeof column.text === "function" ? column.text() : column.text));
    th.dataset.column = name;
    return th;
  });
  ui.table.tHead.replaceChildren(make("tr", {}, ...heads));
  ui.table.tBodies[0].replaceChildren(...state.list.slice(from, from + PAGE).map((g) => {
    const cells = Object.entries(COLUMNS).map(([name, column]) => name === "readout"
      ? make("th", { scope: "row" }, make("button", { type: "button", class: "name", onclick: (event) => openReadout(g, event.currentTarget) }, namesOf()[g]))
      : make("td", { class: name === "found" ? null : "right" }, column.show(column.value(g, a, b))));
    return make("tr", {}, ...cells);
  }));
  ui.first.disabled = ui.back.disabled = state.page === 0;
  ui.next.disabled = ui.last.disabled = state.page >= pages - 1;
}
const turn = (to) => { state.page = Math.max(0, Math.min(to, Math.ceil(state.list.length / PAGE) - 1)); show(); };
ui.first.addEventListener("click", () => turn(0));
ui.back.addEventListener("click", () => turn(state.page - 1));
ui.next.addEventListener("click", () => turn(state.page + 1));
ui.last.addEventListener("click", () => turn(Infinity));
ui.csv.addEventListener("click", () => {
  const [a, b] = chosen();
  const heads = Object.values(COLUMNS).map((c) => (typeof c.text === "function" ? c.text() : c.text));
  saveCsv([heads, ...state.list.map((g) => Object.entries(COLUMNS).map(([name, c]) => {
    const value = c.value(g, a, b);
    return name === "found" ? c.show(value) : typeof value === "number" ? Number(value.toFixed(4)) : value;
  }))], "readouts");
});

function pointsFigure(title, name, points, xTitle, yTitle) {
  const axes = { x: { title: xTitle }, y: { title: yTitle } };
  const binned = points.length > MOST_POINTS;
  const marks = binned
    ? { mark: "rect", encoding: {
        x: { field: "x", type: "quantitative", bin: { maxbins: 40 }, ...axes.x }, y: { field: "y", type: "quantitative", bin: { maxbins: 40 }, ...axes.y },
        color: { aggregate: "count", type: "quantitative", title: "readouts", scale: { scheme: "viridis", type: "log" } } } }
    : { mark: { type: "point", filled: true, size: 22, opacity: 0.6, color: BLUE }, encoding: {
        x: { field: "x", type: "quantitative", scale: { zero: false }, ...axes.x }, y: { field: "y", type: "quantitative", scale: { zero: false }, ...axes.y },
        tooltip: [{ field: "name", type: "nominal" }, { field: "x", type: "quantitative", format: ".3f" }, { field: "y", type: "quantitative", format: ".3f" }] } };
  const ends = points.length ? [Math.max(Math.min(...points.map((p) => p.x)), Math.min(...points.map((p) => p.y))), Math.min(Math.max(...points.map((p) => p.x)), Math.max(...points.map((p) => p.y)))] : [];
  const layers = [{ data: { name: "points" }, ...marks }];
  if (ends.length && ends[0] < ends[1]) layers.push({ data: { name: "line" }, mark: { type: "line", strokeDash: [4, 3], color: "#888888" }, encoding: { x: { field: "at", type: "quantitative" }, y: { field: "at", type: "quantitative" } } });
  return { title, name, data: [], inline: { points, line: ends.map((at) => ({ at })) }, spec: { width: "container", height: 320, layer: layers } };
}
let scatter = null;
ui.draw.addEventListener("click", async () => {
  const [a, b] = chosen();
  if (!b) { ui.count.textContent = "Choose whom to draw the entrant against."; return; }
  const { runs, metric } = boardOf();
  const [left, right] = [runs[Number(ui.run.value)].label, runs[Number(ui.rival.value)].label];
  const points = state.list.filter((g) => Number.isFinite(a.skill[g]) && Number.isFinite(b.skill[g]))
    .map((g) => ({ name: namesOf()[g], x: b.skill[g], y: a.skill[g] }));
  scatter = pointsFigure(`${left} against ${right}`, "scatter", points, `${right}: ${metric}`, `${left}: ${metric}`);
  ui.scatter.hidden = false;
  find("h3", ui.scatter).textContent = scatter.title;
  find(".caption", ui.scatter).textContent = points.length > MOST_POINTS
    ? `${points.length} readouts of the list, counted in bins because there are more than ${MOST_POINTS}.`
    : `Each of the ${points.length} readouts of the list that both score. On the dashed line both score the same.`;
  await draw(find(".chart", ui.scatter), scatter);
  ui.scatter.scrollIntoView({ block: "nearest" });
});
all("[data-kind]", ui.scatter).forEach((button) => button.addEventListener("click", () => {
  if (!scatter) return;
  if (button.dataset.kind === "csv") saveCsv(figureRows(scatter), scatter.name);
  else exportFigure(scatter, button.dataset.kind);
}));

async function openReadout(g, from) {
  const board = boardOf();
  const name = namesOf()[g];
  const data = state.data.runs;
  const panel = find("#readout");
  const close = make("button", { type: "button", onclick: () => { panel.hidden = true; if (from.isConnected) from.focus(); } }, "Close");
  const place = data.map((own) => ranks(own.skill)[g]);
  const table = make("table", {},
    make("thead", {}, make("tr", {}, ...["Run", "Role", board.metric, "Rank among readouts", "q, against the floor", "q, against controls", "Found"].map((t) => make("th", { scope: "col" }, t)))),
    make("tbody", {}, ...board.runs.map((run, i) => make("tr", { class: run.role },
      make("th", { scope: "row" }, run.label), make("td", {}, run.role),
      ...[three(data[i].skill[g]), place[i] ? String(place[i]) : "–", small(data[i].q[g]), small(data[i].q_controls[g])].map((t) => make("td", { class: "right" }, t)),
      make("td", {}, COLUMNS.found.show(data[i].flags[g]))))));
  const facts = Object.entries(documentData.annotation[name] ?? {});
  const children = [make("h3", { id: "readout-title" }, name), close];
  if (state.data.ceiling) facts.unshift(["Noise ceiling", three(state.data.ceiling[g])]);
  if (facts.length) children.push(make("dl", {}, ...facts.flatMap(([k, v]) => [make("dt", {}, k), make("dd", {}, v)])));
  children.push(make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Scores of " + name }, table));
  const more = Object.hasOwn(board.open, name) ? board.open[name] : null;
  const charts = make("div", { class: "pair" });
  const jobs = [];
  if (more) {
    const folds = Object.entries(more.folds).flatMap(([i, values]) => values.map((score, fold) => ({ run: board.runs[i].label, fold, score })).filter((row) => row.score !== null));
    if (folds.length) jobs.push([`${board.metric} in each outer fold`, { title: `${name}: outer folds`, name: "folds", data: [], inline: { folds },
      spec: { width: "container", height: 22 * new Set(folds.map((row) => row.run)).size, data: { name: "folds" }, mark: { type: "tick", thickness: 2, color: BLUE }, encoding: {
        x: { field: "score", type: "quantitative", title: `${board.metric} in one outer fold` },
        y: { field: "run", type: "nominal", sort: null, title: null, axis: { labelLimit: 160 } },
        tooltip: [{ field: "run", type: "nominal" }, { field: "fold", type: "quantitative" }, { field: "score", type: "quantitative", format: ".3f" }] } } }]);
    for (const [i, p] of Object.entries(more.predictions)) {
      const points = p.measured.map((x, k) => ({ name: p.unit[k], x, y: p.predicted[k] }));
      jobs.push([`Measured against predicted: ${board.runs[i].label}`, pointsFigure(`${name}: ${board.runs[i].label}`, "measured-predicted", points, "measured, in the layer's unit", "predicted")]);
    }
  }
  for (const [title, figure] of jobs) {
    const chart = make("div", { class: "chart", role: "img", "aria-label": figure.title });
    charts.append(make("div", { class: "figure" }, make("h4", {}, title), chart, make("div", { class: "tools" },
      ...["svg", "png", "csv"].map((kind) => make("button", { type: "button", onclick: () => (kind === "csv" ? saveCsv(figureRows(figure), figure.name) : exportFigure(figure, kind)) }, kind.toUpperCase())))));
    figure.into = chart;
  }
  children.push(jobs.length ? charts : make("p", { class: "caption" }, "Folds and predictions are kept for a panel only: the best and worst readouts of the leading entrant, and those named when the report was built (--readout)."));
  panel.replaceChildren(...children);
  panel.hidden = false;
  panel.focus();
  for (const [, figure] of jobs) await draw(figure.into, figure);
}

documentData.boards.forEach((board, i) => ui.board.append(option(i, board.title, i === 0)));
ui.board.addEventListener("change", () => { state.board = Number(ui.board.value); fillRuns(); load(); });
for (const box of [ui.run, ui.rival, ui.filter]) box.addEventListener("change", refresh);
ui.text.addEventListener("input", refresh);
fillRuns();
// The first paint and the search come before any figure.
requestAnimationFrame(() => setTimeout(async () => {
  await load();
  document.documentElement.dataset.ready = "yes";
  [...waiting.keys()].forEach((node) => seen.observe(node));
  setTimeout(() => idle(drawRest), 600);
}));
