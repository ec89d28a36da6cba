"use strict";
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("report-data").textContent);

// --- text of the data, shown as text only

// As qa_accel/terminal.py: what would not be seen, or would change the order of what is, is written out.
const HIDDEN = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu;
const NAMES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function writtenOut(character) {
  const code = character.codePointAt(0);
  return NAMES[character] || (code < 256 ? "\\x" + code.toString(16).padStart(2, "0") : "\\u" + code.toString(16).padStart(4, "0"));
}
const visible = (text) => String(text).replace(HIDDEN, writtenOut);
const visibleLines = (text) => text.replace(HIDDEN, (found) => (found === "\n" || found === "\t" ? found : writtenOut(found)));

// element("p", {class: "a", onclick: f}, "text", child): strings become text nodes, never markup.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const percent = (share) => (typeof share === "number" ? (100 * share).toFixed(share > 0 && share < 0.01 ? 2 : 1) + " %" : "–");
const decimal = (number) => (typeof number === "number" ? number.toFixed(Math.abs(number) < 10 ? 2 : 1) : String(number));
const thousands = (number) => number.toLocaleString("en-US");

// --- figures

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const SERIES = 6;

function coloured(figure, width) {
  const { data: traces, layout } = structuredClone(figure);
  const [ink, soft, line, paper] = ["ink", "soft", "line", "paper"].map(colour);
  for (const trace of traces) {
    const own = colour("series-" + (trace.meta.series % SERIES));
    if (trace.line) trace.line.color = own;
    trace.marker = { ...trace.marker, color: own };
    if (trace.marker.pattern) Object.assign(trace.marker.pattern, { bgcolor: own, fgcolor: paper, size: 6 });
    if (trace.error_y) trace.error_y.color = own;
    if (trace.fill) trace.fillcolor = own + "40";
  }
  for (const axis of [layout.xaxis, layout.yaxis]) {
    Object.assign(axis, { gridcolor: line, zerolinecolor: line, linecolor: colour("strong-line"), spikecolor: soft, spikethickness: 1, tickfont: { color: soft } });
    axis.title.font = { size: 13 };
  }
  const across = traces.some((trace) => trace.orientation === "h") ? layout.yaxis : layout.xaxis;
  Object.assign(across, { showgrid: false, showline: true, zeroline: false });
  for (const shape of layout.shapes) shape.line.color = soft;
  for (const label of layout.annotations) Object.assign(label, { bgcolor: paper, arrowcolor: soft });
  Object.assign(layout, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", width, autosize: width === undefined,
    font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 13 },
    hoverlabel: { bgcolor: paper, bordercolor: colour("strong-line"), font: { color: ink } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
  });
  return { traces, layout };
}

async function draw(plot, width) {
  const { traces, layout } = coloured(data.figures[plot.dataset.figure], width);
  if (layout.height) plot.style.height = layout.height + "px";
  await window.Plotly.react(plot, traces, layout, { displayModeBar: false, responsive: true });
  plot.dataset.drawn = "true";
}

const plots = [...document.querySelectorAll(".plot")];
const PRINTED_WIDTH = 680;
const undrawn = [...plots];

// One after the other, so that the page can be read and used meanwhile.
function drawNext() {
  const plot = undrawn.shift();
  if (plot) draw(plot).finally(() => setTimeout(drawNext));
}

function dataTable(figure, title) {
  const plain = (text) => String(text).replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
  const turned = figure.data.some((trace) => trace.orientation === "h");
  const { xaxis, yaxis } = figure.layout;
  const [xTitle, yTitle] = (turned ? [yaxis, xaxis] : [xaxis, yaxis]).map((axis) => axis.title.text);
  const curves = figure.data.map(({ name, x, y }) => (turned ? { name, x: y, y: x } : { name, x, y })).filter(({ y }) => y.some((value) => value !== null));
  const shared = curves.length && curves.every(({ x }) => JSON.stringify(x) === JSON.stringify(curves[0].x));
  const rows = shared
    ? curves[0].x.map((x, place) => [x, ...curves.map(({ y }) => y[place])])
    : curves.flatMap(({ name, x, y }) => x.map((value, place) => [name, value, y[place]]));
  const head = shared ? [xTitle || "", ...curves.map(({ name }) => name)] : ["Curve", xTitle, yTitle];
  const number = (column) => (rows.some((row) => typeof row[column] === "number") ? "number" : null);
  const cell = (value, column) => element("td", { class: number(column) }, value === null ? "–" : plain(value));
  return element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Data of the figure: " + title }, element("table", {},
    element("caption", { class: "unseen" }, title),
    element("thead", {}, element("tr", {}, ...head.map((name, column) => element("th", { scope: "col", class: number(column) }, plain(name))))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell))))));
}

for (const details of document.querySelectorAll("details.data")) {
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const figure = details.closest("figure");
    details.append(dataTable(data.figures[figure.querySelector(".plot").dataset.figure], figure.querySelector("h3").textContent));
  });
}

const redraw = (width) => plots.forEach((plot) => draw(plot, width));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
addEventListener("beforeprint", () => {
  document.documentElement.classList.add("printing");
  redraw(PRINTED_WIDTH);
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("printing");
  redraw();
});

// --- copying, contents

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const lines = button.nextElementSibling;
    getSelection().selectAllChildren(lines);
    try {
      await navigator.clipboard.writeText(lines.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((link, id) => (id === entry.target.id ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
  }
}, { rootMargin: "-10% 0px -80% 0px" });
document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));

drawNext();
