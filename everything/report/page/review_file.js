// The review as a file: saved, loaded, deleted.

function download(name, parts) {
  const url = URL.createObjectURL(new Blob(parts, { type: "application/json" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
// One file for each folder, so that it fits its labels.
const fileName = (what, f) => `${what}${folders.length > 1 ? `-${folders[f].label.replace(/[^\w.-]+/g, "_")}` : ""}.json`;
const counted = (n, what) => `${number(n)} ${what}${n === 1 ? "" : "s"}`;

function saveReview() {
  const known = new Map(photos.map((photo, i) => [resultOf(photo), i]));
  const place = (key) => known.get(key) ?? Infinity;
  const some = folders.map((_, f) => f).filter((f) => reviews[f].size);
  for (const f of some) {
    const images = [...reviews[f].keys()].sort((a, b) => place(a) - place(b)).map((key) => reviews[f].get(key));
    const file = { format: "everything-review", version: 1, labels: folders[f].label, images };
    download(fileName("review", f), [JSON.stringify(file, null, 1), "\n"]);
  }
  if (some.length) { isKept = true; announce(`Saved as ${some.map((f) => fileName("review", f)).join(", ")}.`); }
  else announce("Nothing is reviewed yet.");
}

const isVerdict = (value) => value === undefined || value === null || ["accepted", "rejected"].includes(value);
const isTag = (value) => value === undefined || value === null || (typeof value === "string" && value !== "");
const isMask = (mask) => mask && Number.isInteger(mask.id) && Number.isInteger(mask.area) &&
  /^[0-9a-f]{8}$/.test(mask.crc32) && isVerdict(mask.verdict) && isTag(mask.tag);
const isImage = (image) => image && typeof image.file_name === "string" && isVerdict(image.verdict) &&
  isTag(image.tag) && isTag(image.source_hash) && Array.isArray(image.masks ?? []) && (image.masks ?? []).every(isMask);

function parsed(text) {
  const file = JSON.parse(text);
  if (file?.format !== "everything-review" || file.version !== 1 || !Array.isArray(file.images) || !file.images.every(isImage)) {
    throw new TypeError("not a review that this page can read");
  }
  return file;
}

// What the file says of an image or mask replaces what was said here; the rest stays.
function merge(f, image, entry) {
  let replaced = 0;
  const over = (mine, theirs) => {
    for (const name of ["verdict", "tag"]) {
      if (!theirs[name]) continue;
      if (mine[name] && mine[name] !== theirs[name]) replaced++;
      mine[name] = theirs[name];
    }
  };
  over(entry, image);
  const name = (mask) => `${mask.id} ${mask.crc32} ${mask.area}`;
  const mine = new Map(entry.masks.map((mask) => [name(mask), mask]));
  for (const { id, crc32, area, verdict, tag } of image.masks ?? []) {
    const found = mine.get(name({ id, crc32, area })) || { id, crc32, area };
    over(found, { verdict, tag });
    if (found.verdict || found.tag) mine.set(name(found), found);
  }
  entry.masks = [...mine.values()];
  return replaced;
}

async function loadReview(from) {
  let file;
  try { file = parsed(await from.text()); }
  catch (error) { announce(`${from.name}: ${error.message}.`); return; }
  const f = folders.length > 1 ? folders.findIndex((folder) => folder.label === file.labels) : 0;
  if (f < 0) { announce(`${from.name}: a review of ${file.labels}, which this page does not show.`); return; }
  const by = new Map(photos.map((photo) => [resultOf(photo), photo]));
  let found = 0, replaced = 0, masks = 0;
  for (const image of file.images) {
    const photo = by.get(image.annotation ?? image.file_name);
    if (!photo || photo.width !== image.width || photo.height !== image.height || !isOfContent(image, f, photo)) continue;
    const entry = entryOf(f, photo);
    replaced += merge(f, image, entry);
    masks += (image.masks ?? []).length;
    found++;
    keep(f, resultOf(photo), entry);
  }
  const strange = file.images.length - found;
  if (file.images.length && !found) { announce(`${from.name}: none of its ${counted(strange, "image")} is on this page: it is of other labels.`); return; }
  panes.forEach(attach);
  list();
  reviewChanged();
  announce(`${from.name}: ${counted(found, "image")} and ${counted(masks, "mask")} loaded` +
    (replaced ? `; ${counted(replaced, "verdict or tag")} of before replaced` : "") +
    (strange ? `; ${counted(strange, "image")} left out, which are not on this page or are other images now` : "") +
    ". Masks that are not on the page are counted when their image is opened.");
}

for (const button of document.querySelectorAll(".save-review")) button.addEventListener("click", saveReview);
$("load").addEventListener("click", () => $("review-file").click());
$("review-file").addEventListener("change", () => {
  const [from] = $("review-file").files;
  $("review-file").value = "";
  if (from) loadReview(from);
});
// Asks on the button itself.
$("forget").addEventListener("click", () => {
  const some = reviews.reduce((sum, review) => sum + review.size, 0);
  if (some && !$("forget").dataset.sure) {
    $("forget").dataset.sure = "asked";
    $("forget").textContent = `Really delete the review of ${counted(some, "image")}?`;
    return;
  }
  for (const f of folders.keys()) for (const [key, entry] of reviews[f]) {
    keep(f, key, Object.assign(entry, { verdict: undefined, tag: undefined, masks: [] }));
  }
  unsure();
  list();
  reviewChanged();
  announce("The review is deleted from this browser.");
});
function unsure() {
  delete $("forget").dataset.sure;
  $("forget").textContent = "Delete review";
}
$("forget").addEventListener("blur", unsure);
