// Scores of masks: of the one under the pointer, and the list of all that are shown.

const ROWS = 100; // that are added to the list at a time, as it is scrolled
const levelNames = { whole: "whole object", part: "part", subpart: "subpart" };

// The order of the list: a column of it, largest first until its header is clicked again.
const sorted = {
  column: "iou", down: true,
  by: (a, b) => (sorted.down ? 1 : -1) * (b[sorted.column] - a[sorted.column]) || a.row - b.row,
};
function markSorted() {
  for (const head of $("list").tHead.querySelectorAll("[data-column]")) {
    const on = head.dataset.column === sorted.column;
    head.ariaSort = on ? (sorted.down ? "descending" : "ascending") : "none";
  }
}
for (const head of $("list").tHead.querySelectorAll("[data-column]")) {
  head.querySelector("button").addEventListener("click", () => {
    sorted.down = sorted.column !== head.dataset.column || !sorted.down;
    sorted.column = head.dataset.column;
    markSorted();
    draw();
  });
}
markSorted();

function describe(p, mask) {
  if (!mask) {
    const hint = "Point at a mask to see its scores and area.";
    $("mask").replaceChildren(make("dd", { className: "hint", textContent: hint }));
    return;
  }
  const facts = [
    ["Mask", `${mask.id}${pinned === mask ? " (selected)" : ""}`],
    ...(classOf(mask) ? [["Class", classOf(mask)]] : []),
    ["Level", levelNames[mask.level] || "several objects"],
    ["Predicted IoU", mask.iou.toFixed(3)],
    ["Stability", mask.stability.toFixed(3)],
    ["Area", `${number(mask.area)} px`],
    ["Box", mask.box.map((v) => number(Math.round(v))).join(", ")],
    ["Prompt", mask.points.map((xy) => xy.map((v) => v.toFixed(1)).join(", ")).join("; ") || "–"],
    ...panes.filter((other) => other !== p && other.rows).map((other) => [
      `In ${folders[other.f].label}`, twinIn(mask, other),
    ]),
  ];
  $("mask").replaceChildren(...facts.flatMap(([name, value]) =>
    [make("dt", { textContent: name }), make("dd", { textContent: value })]));
}

function twinIn(mask, other) {
  const twin = mask.twins.find((one) => one.p === other);
  if (!twin) return "not found";
  return twin.shared === null ? `mask ${twin.mask.id}` : `mask ${twin.mask.id}, IoU ${twin.shared.toFixed(2)}`;
}

// The list's rows in their order, of which the first ones are in the page: [pane, mask], or [pane,
// null] for the head of a pane.
let entries = [];
const rows = new Map(); // by mask
let litRow = null;

function fillList() {
  const found = panes.map((p) => p.masks.filter(passes).sort(sorted.by));
  const total = panes.reduce((sum, p) => sum + p.masks.length, 0);
  const count = found.reduce((sum, masks) => sum + masks.length, 0);
  $("shown").textContent = `${number(count)} of ${number(total)} masks shown`;
  entries = panes.flatMap((p, i) => [...(panes.length > 1 ? [[p, null]] : []), ...found[i].map((mask) => [p, mask])]);
  // A row that goes must not take the focus, and the keyboard shortcuts, along.
  const body = $("list").tBodies[0];
  const isInside = body.contains(document.activeElement);
  const until = Math.max(ROWS, placeOf(pinned) + 1);
  rows.clear();
  litRow = null;
  body.replaceChildren();
  addRows(until);
  if (isInside) (rows.get(pinned)?.querySelector("button") || $("viewer")).focus({ preventScroll: true });
}

function addRows(until) {
  const body = $("list").tBodies[0];
  body.append(...entries.slice(body.rows.length, until).map(([p, mask]) => {
    if (mask) { rows.set(mask, maskRow(p, mask)); return rows.get(mask); }
    const head = make("th", { scope: "rowgroup", colSpan: 5, textContent: folders[p.f].label });
    return make("tr", { className: "group" }, head);
  }));
}
const scroller = document.querySelector("aside");
scroller.addEventListener("scroll", () => {
  const body = $("list").tBodies[0];
  if (body.rows.length < entries.length && scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 800) {
    addRows(body.rows.length + ROWS);
  }
}, { passive: true });

const placeOf = (mask) => (mask ? entries.findIndex((entry) => entry[1] === mask) : -1);
function rowFor(mask) {
  if (!rows.has(mask)) addRows(placeOf(mask) + ROWS);
  return rows.get(mask);
}
// The mask after one that has left the list, or else the last one.
function neighbour(at) {
  const left = entries.filter(([, mask]) => mask && passes(mask));
  const after = entries.slice(at).find(([, mask]) => mask && passes(mask));
  return (after || left.at(-1) || [null, null])[1];
}

function maskRow(p, mask) {
  const swatch = make("span", { className: "swatch" });
  swatch.style.background = css(mask.colour);
  const button = make("button", { type: "button" }, swatch, `${mask.id}`);
  button.addEventListener("focus", () => { pinned = mask; remember(); light(p, mask); });
  const cell = (text) => make("td", { className: "n", textContent: text });
  const sign = { accepted: "✓", rejected: "✗" }[mask.said?.verdict];
  const said = make("td", { className: "said", textContent: [sign, classOf(mask)].filter(Boolean).join(" "), title: classOf(mask) });
  const row = make("tr", { className: mask.said?.verdict || "" }, make("td", {}, button), cell(mask.iou.toFixed(3)),
    cell(mask.stability.toFixed(3)), cell(number(mask.area)), said);
  row.addEventListener("pointerenter", () => { if (!pinned) light(p, mask); });
  row.addEventListener("click", () => button.focus());
  return row;
}

// The row of a mask of which something else is said now.
function showAgain(p, mask) {
  const before = rows.get(mask);
  if (!before) return;
  const isInside = before.contains(document.activeElement);
  rows.set(mask, maskRow(p, mask));
  before.replaceWith(rows.get(mask));
  if (isInside) rows.get(mask).querySelector("button").focus({ preventScroll: true });
}

function stepMask(by) {
  const masks = entries.filter((entry) => entry[1]);
  const at = masks.findIndex((entry) => entry[1] === pinned);
  const next = masks[Math.min(masks.length - 1, Math.max(0, at + by))];
  if (next) rowFor(next[1]).querySelector("button").focus();
}

// The classes of the labels and the review's tags, as options of the two filters by class.
function listClasses() {
  const known = new Set(photos.flatMap((photo) => photo.classes || []));
  for (const review of reviews) for (const entry of review.values()) {
    for (const mask of entry.masks) if (mask.tag) known.add(mask.tag);
  }
  const names = [...known].sort((a, b) => a.localeCompare(b));
  for (const [id, none] of [["class", true], ["with-class", false]]) {
    const before = $(id).value;
    const option = (value, textContent) => make("option", { value, textContent });
    $(id).replaceChildren(option("", "any"), ...(none ? [option("-", "none")] : []), ...names.map((name) => option(`=${name}`, name)));
    $(id).value = before;
    if ($(id).selectedIndex < 0) $(id).value = "";
    $(id).closest("label").hidden = !names.length;
  }
  $("tags").replaceChildren(...names.map((value) => make("option", { value })));
}
