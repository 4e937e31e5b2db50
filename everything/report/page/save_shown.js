// The masks that are shown now, by level and filters, as COCO files that `everything import` and
// other tools read: of the open image, or of all that are listed.

const NOTE = "Masks that were shown on the page of `everything report`. Scores are rounded to 4 digits, boxes and " +
  "points to 0.1 px; crop boxes, crowds and times are not on the page: `everything export` writes all that the labels have.";

// Collects the JSON of images and annotations, and numbers the classes.
function cocoFile(f) {
  const ids = new Map(folders[f].categories.map((one) => [one.name, one.id]));
  const self = { images: [], annotations: [], masks: 0, left: 0, ids };
  const category = (name) => {
    if (!ids.has(name)) ids.set(name, Math.max(0, ...ids.values()) + 1);
    return ids.get(name);
  };
  self.add = (i, masks) => {
    const { name, width, height } = photos[i];
    const shown = masks.filter(passes);
    self.left += masks.length - shown.length;
    self.images.push(JSON.stringify({ id: i + 1, file_name: name, width, height }));
    for (const mask of shown) {
      self.masks++;
      self.annotations.push(JSON.stringify({
        id: self.masks, image_id: i + 1, category_id: category(classOf(mask) || "object"),
        segmentation: { size: [height, width], counts: mask.code }, area: mask.area, bbox: mask.box, iscrowd: 0,
        predicted_iou: mask.iou, stability_score: mask.stability, point_coords: mask.points, mask_id: mask.id,
        ...(mask.said?.verdict && { verdict: mask.said.verdict }),
      }));
    }
  };
  self.parts = (missing) => {
    const info = {
      description: NOTE, labels: folders[f].label, level: settings.level, filters: chosen(),
      masks_left_out: self.left, images_left_out: missing,
    };
    const categories = [...ids].map(([name, id]) => ({ id, name }));
    const between = (lines) => lines.flatMap((line, n) => (n ? [",\n", line] : [line]));
    return [`{"info": ${JSON.stringify(info)},\n"categories": ${JSON.stringify(categories)},\n"images": [\n`,
      ...between(self.images), '\n],\n"annotations": [\n', ...between(self.annotations), "\n]}\n"];
  };
  return self;
}

let started = 0;
let saving = 0; // the run that may go on: another click stops it
async function saveShown(some, button) {
  const run = saving = ++started;
  const files = folders.map((_, f) => cocoFile(f));
  const missing = folders.map(() => 0);
  for (const [n, i] of some.entries()) {
    const found = await rowsFor(i);
    if (run !== saving) return;
    const sides = (found || folders.map(() => null)).map((rows, f) => ({ f, photo: photos[i], rows, masks: rows ? named(rows) : [] }));
    link(sides);
    sides.forEach((side, f) => {
      attach(side);
      if (side.rows) files[f].add(i, side.masks); else missing[f]++;
    });
    if (n % 20 === 19) announce(`Reading masks: ${number(n + 1)} of ${number(some.length)} images. Click again to stop.`);
  }
  saving = 0;
  button.textContent = button.dataset.label;
  const said = files.map((file, f) => {
    if (!file.images.length) return `${folders[f].label}: no masks to save`;
    download(fileName("shown", f), file.parts(missing[f]));
    return `${fileName("shown", f)}: ${counted(file.masks, "mask")} of ${counted(file.images.length, "image")}; left out: ` +
      `${counted(file.left, "mask")} not shown` + (missing[f] ? `, ${counted(missing[f], "image")} without masks on this page` : "");
  });
  announce(`${said.join(". ")}. COCO's format; scores, boxes and points are rounded.`);
}
for (const [id, some] of [["save-image", () => [current]], ["save-listed", () => listed]]) {
  const button = $(id);
  button.dataset.label = button.textContent;
  button.addEventListener("click", () => {
    if (saving) { saving = 0; button.textContent = button.dataset.label; announce("Stopped: nothing was saved."); return; }
    if (some().length > 1) button.textContent = "Stop";
    saveShown([...some()], button);
  });
}
