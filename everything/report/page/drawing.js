// Draws the panes.

// Little-endian RGBA with straight alpha.
const pixel = (colour, alpha) => {
  const rgb = palette[colour % palette.length];
  return ((Math.round(alpha * 255) << 24) | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
};

function paint(context, photo, picture) {
  const image = context.createImageData(photo.wide, photo.high);
  const out = new Uint32Array(image.data.buffer);
  const { wide, high } = photo;
  for (let y = 0; y < high; y++) {
    for (let x = 0, p = y; x < wide; x++, p += high) out[y * wide + x] = picture[p];
  }
  context.putImageData(image, 0, 0);
}

function draw() {
  for (const p of panes) drawPane(p);
  fillList();
  light(panes.find((p) => p.masks.includes(pinned)) || null, pinned);
}

function drawPane(p) {
  const { photo } = p;
  const picture = new Uint32Array(photo.wide * photo.high);
  p.owner.fill(-1);
  let count = 0;
  p.masks.forEach((mask, m) => {
    if (!passes(mask)) return;
    count++;
    fill(mask, photo.high, p.owner, m);
    const shade = mask.said?.verdict === "rejected" ? hatch : fill;
    shade(mask, photo.high, picture, pixel(mask.colour, settings.opacity));
    if ($("contours").checked) {
      const line = pixel(mask.colour, 1);
      for (const at of mask.edge) picture[at] = line;
    }
  });
  paint(p.layer, photo, picture);
  p.figure.dataset.shown = count;
  p.stage.querySelector(".masks").hidden = !$("visible").checked;
  const seconds = photo.found[p.f]?.total ? `, ${photo.found[p.f].total.toFixed(2)} s` : "";
  const about = p.rows === null
    ? `: ${photo.reasons[p.f] || "no annotations in this folder"}`
    : `: ${number(count)} of ${number(p.masks.length)} masks${seconds}`;
  p.caption.replaceChildren(make("b", { textContent: folders[p.f].label }), about);
}

// Highlight one mask and its counterparts in the other panes, dim the others, mark it in the list
// and show its scores.
function light(p, mask) {
  pointed = mask;
  const lit = mask ? [{ p, mask }, ...mask.twins] : [];
  for (const other of panes) {
    const mine = lit.filter((one) => one.p === other).map((one) => one.mask);
    other.stage.classList.toggle("one", Boolean(mask));
    const picture = new Uint32Array(other.photo.wide * other.photo.high);
    for (const one of mine) {
      fill(one, other.photo.high, picture, pixel(one.colour, 0.6));
      for (const at of one.edge) picture[at] = pixel(one.colour, 1);
    }
    if (mine.length || other.lit) paint(other.highlight, other.photo, picture);
    other.lit = mine.length > 0;
  }
  litRow?.classList.remove("on");
  litRow = rows.get(mask);
  litRow?.classList.add("on");
  describe(p, mask);
  showReview();
}
