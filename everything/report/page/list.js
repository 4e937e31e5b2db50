// Scores of masks: of the one under the pointer, and the list of all that are shown.

const levelNames = { whole: "whole object", part: "part", subpart: "subpart" };

// The order of the list: a column of it, largest first until its header is clicked again.
const sorted = {
  column: "iou", down: true,
  by: (a, b) => (sorted.down ? 1 : -1) * (b[sorted.column] - a[sorted.column]) || a.row - b.row,
};
function markSorted() {
  for (const head of $("list").tHead.rows[0].cells) {
    const on = head.dataset.column === sorted.column;
    head.ariaSort = on ? (sorted.down ? "descending" : "ascending") : "none";
  }
}
for (const head of $("list").tHead.rows[0].cells) {
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

function fillList() {
  const found = panes.map((p) => p.masks.filter(passes).sort(sorted.by));
  const total = panes.reduce((sum, p) => sum + p.masks.length, 0);
  const count = found.reduce((sum, masks) => sum + masks.length, 0);
  $("shown").textContent = `${number(count)} of ${number(total)} masks shown`;
  $("list").tBodies[0].replaceChildren(...panes.flatMap((p, i) => {
    const rows = found[i].slice(0, 1000).map((mask) => maskRow(p, mask));
    if (panes.length < 2) return rows;
    const head = make("th", { scope: "rowgroup", colSpan: 4, textContent: folders[p.f].label });
    return [make("tr", { className: "group" }, head), ...rows];
  }));
}

function maskRow(p, mask) {
  const swatch = make("span", { className: "swatch" });
  swatch.style.background = css(mask.colour);
  const button = make("button", { type: "button" }, swatch, `${mask.id}`);
  button.addEventListener("focus", () => { pinned = mask; remember(); light(p, mask); });
  const cell = (text) => make("td", { className: "n", textContent: text });
  const row = make("tr", {}, make("td", {}, button), cell(mask.iou.toFixed(3)),
    cell(mask.stability.toFixed(3)), cell(number(mask.area)));
  row.mask = mask;
  row.addEventListener("pointerenter", () => { if (!pinned) light(p, mask); });
  row.addEventListener("click", () => button.focus());
  return row;
}

function stepMask(by) {
  const buttons = [...$("list").tBodies[0].querySelectorAll("button")];
  const at = buttons.findIndex((button) => button.closest("tr").mask === pinned);
  const next = buttons[Math.min(buttons.length - 1, Math.max(0, at + by))];
  if (next) next.focus();
}
