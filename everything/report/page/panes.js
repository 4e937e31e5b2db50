// One pane per results folder: the image, its masks, and the highlighted mask on top.

const settings = {
  level: index.level, iou: 0, stability: 0, smallest: 0, largest: Infinity, opacity: 0.35, alone: false,
  class: "", verdict: "",
};
let panes = [];
let pinned = null;
let pointed = null; // the mask that is highlighted

// A tag stands for the class of the labels, as it does in `everything filter --reviewed`.
const classOf = (mask) => mask.said?.tag || mask.category || "";
const verdicts = {
  "": () => true, kept: (one) => one !== "rejected", open: (one) => !one,
  accepted: (one) => one === "accepted", rejected: (one) => one === "rejected",
};
const passes = (mask) => (settings.level === "all" || mask.level === settings.level) &&
  mask.iou >= settings.iou && mask.stability >= settings.stability &&
  mask.area >= settings.smallest && mask.area <= settings.largest &&
  !(settings.alone && mask.twins.length) && verdicts[settings.verdict](mask.said?.verdict) &&
  // "=cat": the class cat, "-": without a class.
  (settings.class === "" || settings.class === (classOf(mask) ? `=${classOf(mask)}` : "-"));

function pane(photo, i, rows, f) {
  const sheet = make("div", { className: "sheet" });
  if (!photo.missing) sheet.append(make("img", { src: `photos/${padded(i)}.jpg`, alt: photo.name, draggable: false }));
  const size = { width: photo.wide, height: photo.high };
  const masks = make("canvas", { className: "masks", ...size });
  const one = make("canvas", { className: "highlight", ...size });
  sheet.append(masks, one);
  const stage = make("div", { className: "stage" }, sheet);
  // Where annotations cannot be read, the caption says why.
  if (photo.missing && photo.missing !== photo.reasons[f]) stage.append(make("span", { className: "missing", textContent: photo.missing }));
  const caption = make("figcaption");
  const figure = make("figure", { className: "pane" }, caption, stage);
  const self = {
    photo, f, figure, stage, sheet, caption, rows,
    layer: masks.getContext("2d"), highlight: one.getContext("2d"),
    masks: rows ? prepared(rows, photo) : [], owner: new Int32Array(photo.wide * photo.high),
  };
  stage.addEventListener("pointermove", (event) => {
    if (pinned) return;
    const mask = under(self, event)[0] || null;
    if (mask !== pointed) light(self, mask);
  });
  stage.addEventListener("pointerleave", () => { if (!pinned) light(self, null); });
  stage.addEventListener("click", (event) => { if (!moved) pin(self, under(self, event)); });
  stage.addEventListener("wheel", (event) => wheel(self, event), { passive: false });
  stage.addEventListener("pointerdown", (event) => grab(self, event));
  return self;
}

// The same object has one colour in all panes and is highlighted in all of them.
function link(some) {
  const first = some.find((p) => p.rows);
  if (!first) return;
  const by = new Map(first.masks.map((mask) => [mask.row, mask]));
  for (const p of some) {
    if (p === first) continue;
    for (const mask of p.masks) {
      const twin = by.get(mask.twin);
      if (!twin) continue;
      mask.twins.push({ p: first, mask: twin, shared: mask.shared });
      for (const other of twin.twins) {
        mask.twins.push({ p: other.p, mask: other.mask, shared: null });
        other.mask.twins.push({ p, mask, shared: null });
      }
      twin.twins.push({ p, mask, shared: mask.shared });
    }
  }
}

// As many panes side by side as make the images largest.
function arrange() {
  if (!panes.length) return;
  const { wide, high } = panes[0].photo;
  const room = $("panes").getBoundingClientRect();
  const scale = (n) => {
    const rows = Math.ceil(panes.length / n);
    return Math.min(room.width / n / wide, (room.height / rows - 40) / high);
  };
  let best = 1;
  for (let n = 2; n <= panes.length; n++) if (scale(n) > scale(best) * 0.98) best = n;
  $("panes").style.gridTemplateColumns = `repeat(${best}, minmax(0, 1fr))`;
}
window.addEventListener("resize", () => { arrange(); zoom(view); });

// Masks at the pointer, the smallest first.
function under(p, event) {
  const box = p.sheet.getBoundingClientRect();
  const { wide, high } = p.photo;
  const scale = Math.min(box.width / wide, box.height / high);
  const x = Math.floor((event.clientX - box.left - (box.width - wide * scale) / 2) / scale);
  const y = Math.floor((event.clientY - box.top) / scale);
  if (x < 0 || y < 0 || x >= wide || y >= high || p.owner[x * high + y] < 0) return [];
  const holds = (mask) => {
    for (let s = 0; s < mask.strips.length; s += 3) {
      if (mask.strips[s] === x && mask.strips[s + 1] <= y && y < mask.strips[s + 2]) return true;
    }
    return false;
  };
  return p.masks.filter((mask) => passes(mask) && holds(mask)).reverse();
}

function pin(p, masks) {
  const at = pinned ? masks.indexOf(pinned) : -1;
  pinned = masks[at + 1] || null;
  remember();
  const row = pinned && rowFor(pinned);
  light(p, pinned || masks[0] || null);
  if (row) row.scrollIntoView({ block: "nearest" });
}
