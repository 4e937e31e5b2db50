// Scores of masks: of the one under the pointer, and the list of all that are shown.

function describe(p, mask) {
  if (!mask) {
    const hint = "Point at a mask to see its scores and area.";
    $("mask").replaceChildren(make("dd", { className: "hint", textContent: hint }));
    return;
  }
  const facts = [
    ["Mask", `${mask.id}${pinned === mask ? " (selected)" : ""}`],
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
  const found = panes.map((p) => p.masks.filter(passes).sort((a, b) => b.iou - a.iou));
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
  button.addEventListener("focus", () => { pinned = mask; light(p, mask); });
  const cell = (text) => make("td", { className: "n", textContent: text });
  const row = make("tr", {}, make("td", {}, button), cell(mask.iou.toFixed(3)),
    cell(mask.stability.toFixed(3)), cell(number(mask.area)));
  row.mask = mask;
  row.addEventListener("pointerenter", () => { if (!pinned) light(p, mask); });
  row.addEventListener("click", () => button.focus());
  return row;
}

function stepMask(by) {
  const buttons = [...$("list").querySelectorAll("button")];
  const at = buttons.findIndex((button) => button.closest("tr").mask === pinned);
  const next = buttons[Math.min(buttons.length - 1, Math.max(0, at + by))];
  if (next) next.focus();
}
