"use strict";
// --- the questions

const PAGE = 20;
const ADDRESS = "#explorer?";
const EMPTY = { kind: "", family: "", value: "", flip: "", text: "", order: "sure", page: 1, open: "" };
const explorer = data.explorer;
let state = { ...EMPTY };

const kindName = (id) => visible((explorer.kinds.find(([kind]) => kind === id) || [id, id])[1]);
const answerOr = (text) => (text ? element("span", { class: "said", dir: "auto" }, visible(text)) : element("span", { class: "none" }, "no answer"));
const distinct = (texts) => [...new Set(texts)];

function sureness(question) {
  if (typeof question.confidence === "number") return question.confidence;
  const given = question.nbest.find((answer) => answer.text === question.predicted.text);
  return given && typeof given.probability === "number" ? given.probability : 0;
}

function searched(question) {
  const texts = [question.id, question.question, question.title, question.predicted.text, question.other ? question.other.text : ""];
  return [...texts, ...question.gold.map(([, , text]) => text), explorer.contexts[question.context]].join("\n").toLowerCase();
}

function found() {
  const text = state.text.trim().toLowerCase();
  const kept = explorer.questions.filter((question) =>
    (!state.kind || question.kind === state.kind) &&
    (!state.flip || question.flip === state.flip) &&
    (!state.value || question.slices[state.family] === state.value) &&
    (!text || searched(question).includes(text)));
  if (state.order !== "sure") return kept.sort((one, two) => one.row - two.row);
  const wrong = kept.filter((question) => question.exact < 1).sort((one, two) => sureness(two) - sureness(one));
  return [...wrong, ...kept.filter((question) => question.exact >= 1)];
}

function list() {
  const kept = found();
  const pages = Math.max(1, Math.ceil(kept.length / PAGE));
  state.page = Math.min(Math.max(1, state.page), pages);
  const first = (state.page - 1) * PAGE;
  const part = kept.slice(first, first + PAGE);
  byId("explorer-questions").replaceChildren(...part.map(row));
  byId("explorer-count").textContent = `${thousands(kept.length)} of ${thousands(explorer.questions.length)} shown, of ` +
    `${thousands(explorer.total)} in the data` + (pages > 1 ? ` (page ${state.page} of ${pages})` : "");
  byId("explorer-pages").hidden = pages === 1;
  byId("explorer-page").textContent = kept.length ? `${first + 1} to ${first + part.length} of ${thousands(kept.length)}` : "";
  byId("explorer-previous").disabled = state.page === 1;
  byId("explorer-next").disabled = state.page === pages;
}

function row(question) {
  const golds = distinct(question.gold.map(([, , text]) => text));
  const brief = element("span", { class: "brief" }, "answered ", answerOr(question.predicted.text), ", expected ",
    answerOr(golds[0]), golds.length > 1 ? ` (or ${golds.length - 1} more)` : "", ` · F1 ${percent(question.f1)}`,
    sureness(question) ? ` · ${percent(sureness(question))} sure` : "", question.flip ? ` · ${question.flip} than ${visible(explorer.names[1])}` : "");
  const right = question.exact >= 1 ? " right" : "";
  const made = element("details", { class: "question", name: "question", "data-id": visible(question.id) },
    element("summary", {}, element("span", { class: "asked", dir: "auto" }, visible(question.question.trim() || question.id)),
      element("span", { class: "kind" + right }, kindName(question.kind)), brief));
  const fill = () => { if (made.children.length === 1) made.append(body(question)); };
  if (state.open === question.id) { made.open = true; fill(); }
  made.addEventListener("toggle", () => {
    if (made.open) { fill(); state.open = question.id; showFirstMark(made.querySelector(".passage")); } else if (state.open === question.id) state.open = "";
    saveState();
  });
  return made;
}

// In a long context, whose box scrolls.
function showFirstMark(box) {
  const mark = box.querySelector("mark");
  if (mark) box.scrollTop = mark.getBoundingClientRect().top - box.getBoundingClientRect().top + box.scrollTop - box.clientHeight / 3;
}

function body(question) {
  const [own, other] = explorer.names || ["Answer", "Other run"];
  const facts = element("dl", { class: "facts" });
  const fact = (name, ...values) => facts.append(element("dt", {}, name), element("dd", {}, ...values));
  const golds = distinct(question.gold.map(([, , text]) => text));
  const scores = (answer) => ` · exact match ${percent(answer.exact)}, F1 ${percent(answer.f1)}`;
  fact("Expected", ...(golds.length ? golds.flatMap((text, place) => [place ? " · " : "", answerOr(text)]) : [answerOr("")]));
  fact(visible(own), answerOr(question.predicted.text), scores(question), ` · ${kindName(question.kind)}`,
    typeof question.confidence === "number" ? ` · confidence ${percent(question.confidence)}` : "");
  if (question.other) fact(visible(other), answerOr(question.other.text), scores(question.other), ` · ${kindName(question.other.kind)}`);
  fact("Title", element("span", { dir: "auto" }, visible(question.title)));
  fact("Id", visible(question.id));
  const slices = explorer.families.filter(([family]) => family in question.slices);
  if (slices.length) fact("Slices", element("span", { class: "slices" }, ...slices.map(([family, name]) => element("button",
    { type: "button", class: "slice", title: "Show this slice", onclick: () => show({ family, value: question.slices[family] }) },
    `${visible(name)}: ${visible(question.slices[family])}`))));
  return element("div", { class: "body" }, facts, passage(question), nullOdds(question), bestAnswers(question));
}

// A character of several code points (a letter and its accents, an emoji of several) is marked whole or not at all.
const segmenter = window.Intl && Intl.Segmenter ? new Intl.Segmenter("en", { granularity: "grapheme" }) : null;

function boundaries(text) {
  const segments = segmenter ? segmenter.segment(text) : null;
  const at = (place) => (segments && place < text.length ? segments.containing(place) : null);
  return {
    before: (place) => { const found = at(place); return found ? found.index : place; },
    after: (place) => { const found = at(place - 1); return found ? found.index + found.segment.length : place; },
  };
}

function spansOf(question, text) {
  const spans = [];
  const edges = boundaries(text);
  const add = (kind, label, start, end) => {
    if (typeof start !== "number" || typeof end !== "number" || start < 0 || start >= end || end > text.length) return;
    spans.push({ kind, label, start: edges.before(start), end: edges.after(end) });
  };
  const golds = new Map();
  for (const [start, end] of question.gold) golds.set(`${start},${end}`, [start, end]);
  [...golds.values()].forEach(([start, end], place) => add("gold", golds.size > 1 ? `gold ${place + 1}` : "gold", start, end));
  const [own, other] = explorer.names || ["predicted", "other"];
  if (question.predicted.text) add("predicted", explorer.names ? visible(own) : own, question.predicted.start, question.predicted.end);
  if (question.other && question.other.text) add("other", visible(other), question.other.start, question.other.end);
  return spans;
}

// The text, cut where a span or a window begins or ends: each piece is in one mark for each kind of span that covers it.
function markedText(question, text) {
  const spans = spansOf(question, text);
  const edges = boundaries(text);
  const borders = question.windows.flatMap(([start, end], place) => [
    { at: edges.before(start), begins: true, text: `⟦${place + 1} `, title: `Window ${place + 1} begins here` },
    { at: edges.before(end), begins: false, text: ` ${place + 1}⟧`, title: `Window ${place + 1} ends here` }])
    .filter(({ at }) => at >= 0 && at <= text.length);
  const gaps = question.left_out.map(([at, count]) => ({ at, count }));
  const cuts = new Set([0, text.length, ...spans.flatMap(({ start, end }) => [start, end]), ...[...borders, ...gaps].map(({ at }) => at)]);
  const places = [...cuts].sort((one, two) => one - two);
  const made = [];
  places.forEach((start, number) => {
    const edge = (border) => element("span", { class: "edge", title: border.title, "data-edge": border.text });
    const [begun, ended] = [true, false].map((begins) => borders.filter((border) => border.at === start && border.begins === begins).map(edge));
    const cut = gaps.filter(({ at }) => at === start).map(({ count }) => element("span", { class: "cut" }, ` … ${thousands(count)} characters left out … `));
    made.push(...ended, ...cut, ...begun);
    if (number + 1 < places.length) made.push(piece(spans, text, start, places[number + 1]));
  });
  return made;
}

function piece(spans, text, start, end) {
  let made = document.createTextNode(visibleLines(text.slice(start, end)));
  for (const kind of ["other", "predicted", "gold"]) {
    const over = spans.filter((span) => span.kind === kind && span.start <= start && span.end >= end);
    if (!over.length) continue;
    const begun = over.filter((span) => span.start === start).map((span) => span.label).join(", ");
    made = element("mark", { class: kind, "data-label": begun || null, title: over.map((span) => span.label).join(", ") }, made);
  }
  return made;
}

function passage(question) {
  const text = explorer.contexts[question.context];
  const held = element("div", { class: "passage", dir: "auto", tabindex: "0", role: "region", "aria-label": "Context" }, ...markedText(question, text));
  const legend = element("ul", { class: "legend" });
  const names = { gold: "expected (gold)", predicted: explorer.names ? visible(explorer.names[0]) : "predicted", other: explorer.names ? visible(explorer.names[1]) : "" };
  for (const kind of distinct(spansOf(question, text).map((span) => span.kind))) {
    legend.append(element("li", {}, element("mark", { class: kind }, names[kind])));
  }
  const unplaced = question.gold.length && question.gold.every(([start]) => start === null);
  if (unplaced) legend.append(element("li", {}, "The place of the expected answer is not known."));
  if (question.windows.length > 1) {
    const box = element("input", { type: "checkbox", onchange: () => held.classList.toggle("edges", box.checked) });
    legend.append(element("li", {}, element("label", {}, box, ` show the ${question.windows.length} windows`)));
  }
  return element("div", {}, element("h3", {}, "Context"), legend, held);
}

// Of nearly all questions: one without any span has null odds of a thousand million.
function reachOfOdds(limit) {
  const far = explorer.questions.map(({ null_odds: odds }) => (typeof odds === "number" ? Math.abs(odds - limit) : Infinity));
  const finite = far.filter(Number.isFinite).sort((one, two) => one - two);
  return finite[Math.floor(0.95 * (finite.length - 1))] || 1;
}

function nullOdds(question) {
  const odds = question.null_odds;
  if (odds === null || explorer.threshold === null) return null;
  const title = element("h3", {}, "Is there an answer?");
  const limit = explorer.threshold;
  if (typeof limit !== "number" || typeof odds !== "number") return element("div", {}, title, element("p", {}, `Null odds ${decimal(odds)}.`));
  const words = odds > limit
    ? `Null odds ${decimal(odds)} are above the threshold ${decimal(limit)}: no answer is given.`
    : `Null odds ${decimal(odds)} are not above the threshold ${decimal(limit)}: the best span is given.`;
  const at = element("i", { class: "at" });
  at.style.left = 50 + 47 * Math.max(-1, Math.min(1, (odds - limit) / reachOfOdds(limit))) + "%";
  return element("div", {}, title, element("p", {}, words), element("div", { class: "scale", "aria-hidden": "true" },
    element("i", { class: "track" }), element("i", { class: "limit" }), at, element("span", {}, "answers"), element("span", {}, "no answer")));
}

function bestAnswers(question) {
  const sure = question.nbest.some((answer) => typeof answer.confidence === "number");
  const head = ["Answer", "Probability", ...(sure ? ["Confidence"] : [])];
  const bar = (share) => {
    const filled = element("b");
    filled.style.width = 100 * (typeof share === "number" ? share : 0) + "%";
    return element("span", { class: "share" }, element("i", { "aria-hidden": "true" }, filled), percent(share));
  };
  const line = (answer) => element("tr", {}, element("td", {}, answerOr(answer.text)), element("td", { class: "number" }, bar(answer.probability)),
    ...(sure ? [element("td", { class: "number" }, percent(answer.confidence))] : []));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Best answers" }, element("table", {},
    element("caption", {}, "Best answers"),
    element("thead", {}, element("tr", {}, ...head.map((name, place) => element("th", { scope: "col", class: place ? "number" : null }, name)))),
    element("tbody", {}, ...question.nbest.map(line))));
}

// --- filters and their address

const FIELDS = ["kind", "family", "value", "flip", "text", "order"];

function fillValues() {
  const family = explorer.families.find(([id]) => id === state.family);
  byId("explorer-value-field").hidden = !family;
  const values = family ? family[2] : [];
  byId("explorer-value").replaceChildren(new Option("all", ""), ...values.map((value) => new Option(visible(value), value)));
}

// The page of the list that has the open question.
function turnToOpen() {
  const place = found().findIndex((question) => question.id === state.open);
  if (place >= 0) state.page = Math.floor(place / PAGE) + 1;
}

function showState() {
  fillValues();
  for (const field of FIELDS) byId("explorer-" + field).value = state[field];
  list();
}

function saveState() {
  const set = Object.entries(state).filter(([key, value]) => value !== EMPTY[key]).map(([key, value]) => [key, String(value)]);
  const address = set.length ? ADDRESS + new URLSearchParams(set) : "#explorer";
  try { history.replaceState(null, "", address); } catch { /* a page within another may have no address of its own */ }
}

function readState() {
  const given = new URLSearchParams(location.hash.slice(ADDRESS.length));
  state = { ...EMPTY };
  for (const key of Object.keys(EMPTY)) if (given.has(key)) state[key] = given.get(key);
  state.page = parseInt(state.page, 10) || 1;
  turnToOpen();
  showState();
}

// Other filters than these are cleared.
function show(filters) {
  state = { ...EMPTY, order: state.order, ...filters };
  showState();
  saveState();
  byId("explorer-count").focus({ preventScroll: true });
  byId("explorer-filters").scrollIntoView();
}

// One question, opened in the list of all.
function showQuestion(id) {
  state = { ...EMPTY, order: state.order, open: id };
  turnToOpen();
  showState();
  saveState();
  const opened = document.querySelector(".question[open]");
  opened.querySelector("summary").focus({ preventScroll: true });
  opened.scrollIntoView();
}

function startExplorer() {
  byId("explorer-chosen").textContent = visible(explorer.chosen) +
    (explorer.left_out ? ` ${thousands(explorer.left_out)} of these are left out, so that the file does not become too large.` : "");
  byId("explorer-kind").replaceChildren(new Option("all", ""), ...explorer.kinds.map(([id, name, count]) => new Option(`${visible(name)} (${thousands(count)})`, id)));
  byId("explorer-family").replaceChildren(new Option("all", ""), ...explorer.families.map(([id, name]) => new Option(visible(name), id)));
  byId("explorer-flip-field").hidden = !explorer.names;
  if (explorer.names) {
    const [own, other] = explorer.names.map(visible);
    byId("explorer-flip").replaceChildren(new Option("all", ""), new Option(`${own} right, ${other} wrong`, "better"), new Option(`${own} wrong, ${other} right`, "worse"));
  }
  for (const field of FIELDS) {
    byId("explorer-" + field).addEventListener("input", (event) => {
      state = { ...state, page: 1, open: "", [field]: event.target.value, ...(field === "family" ? { value: "" } : {}) };
      if (field === "family") fillValues();
      list();
      saveState();
    });
  }
  byId("explorer-filters").addEventListener("submit", (event) => event.preventDefault());
  byId("explorer-filters").addEventListener("reset", (event) => { event.preventDefault(); show({ order: "sure" }); });
  const turn = (step) => { state.page += step; state.open = ""; list(); saveState(); byId("explorer-count").focus(); };
  byId("explorer-previous").addEventListener("click", () => turn(-1));
  byId("explorer-next").addEventListener("click", () => turn(1));
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".filter");
    if (!button) return;
    const { id, slice, ...filters } = JSON.parse(button.dataset.filter);
    if (id !== undefined) return showQuestion(id);
    if (slice) [filters.family, filters.value] = [slice.slice(0, slice.indexOf("=")), slice.slice(slice.indexOf("=") + 1)];
    show(filters);
  });
  addEventListener("hashchange", () => { if (location.hash.startsWith(ADDRESS)) readState(); });
  readState();
  if (location.hash.startsWith(ADDRESS)) byId("explorer").scrollIntoView();
}

if (explorer) startExplorer();
