// The review: what a person accepts, rejects or tags. It is kept in this browser, one item for each
// image, in the form of the file (everything/io/results/review.py).

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});
function crc32(text) {
  let crc = -1;
  for (let i = 0; i < text.length; i++) crc = CRC[(crc ^ text.charCodeAt(i)) & 255] ^ (crc >>> 8);
  return (~crc >>> 0).toString(16).padStart(8, "0");
}
function fingerprint(mask, photo) {
  mask.crc32 ??= crc32(`${photo.height} ${photo.width} ${mask.code}`);
  return mask.crc32;
}

// By folder: what was said of an image and its masks, by the name of its result.
const reviews = folders.map(() => new Map());
const resultOf = (photo) => photo.annotation ?? photo.name;
// A review is of an image's content: another image that has its name now is not reviewed. Labels of
// other tools do not say which content they are of.
const contentOf = (f, photo) => photo.found[f]?.source;
const isOfContent = (entry, f, photo) => (entry.source_hash ?? contentOf(f, photo)) === (contentOf(f, photo) ?? entry.source_hash);
function reviewOf(f, photo) {
  const entry = reviews[f].get(resultOf(photo));
  return entry && isOfContent(entry, f, photo) ? entry : undefined;
}
const itemName = (f, key) => `everything-review ${location.pathname} ${folders[f].label} ${folders[f].digest} ${key}`;
const isEmpty = (entry) => !entry.verdict && !entry.tag && !entry.masks.length;
let isKept = true;

function recall() {
  try {
    const start = folders.map((_, f) => itemName(f, ""));
    for (let n = 0; n < localStorage.length; n++) {
      const name = localStorage.key(n);
      const f = start.findIndex((one) => name.startsWith(one));
      if (f >= 0) reviews[f].set(name.slice(start[f].length), JSON.parse(localStorage.getItem(name)));
    }
  } catch (error) { notKept(error); }
}
function notKept(error) {
  isKept = false;
  announce(`This browser does not keep the review (${error.name}): save it before you close the page.`);
}
window.addEventListener("beforeunload", (event) => { if (!isKept) event.preventDefault(); });

// What another tab with this page says holds here too.
window.addEventListener("storage", (event) => {
  const f = folders.findIndex((_, n) => event.key && event.key.startsWith(itemName(n, "")));
  if (f < 0) return;
  const key = event.key.slice(itemName(f, "").length);
  if (event.newValue) reviews[f].set(key, JSON.parse(event.newValue)); else reviews[f].delete(key);
  panes.forEach(attach);
  reviewChanged();
});

function keep(f, key, entry) {
  if (isEmpty(entry)) reviews[f].delete(key); else reviews[f].set(key, entry);
  try {
    if (isEmpty(entry)) localStorage.removeItem(itemName(f, key));
    else localStorage.setItem(itemName(f, key), JSON.stringify(entry));
  } catch (error) { notKept(error); }
}
function entryOf(f, photo) {
  const about = { file_name: photo.name, width: photo.width, height: photo.height, masks: [] };
  if (photo.annotation !== undefined) about.annotation = photo.annotation;
  if (contentOf(f, photo)) about.source_hash = contentOf(f, photo);
  return reviewOf(f, photo) || about;
}

// Give each mask what was said of it: it has the same pixels and, of several, the same id.
function attach({ f, photo, masks }) {
  for (const mask of masks) mask.said = undefined;
  const entry = reviewOf(f, photo);
  if (!entry || !entry.masks.length) return;
  const by = Map.groupBy(masks, (mask) => `${fingerprint(mask, photo)} ${mask.area}`);
  let left = entry.masks;
  for (const isById of [true, false]) {
    left = left.filter((said) => {
      const fits = (by.get(`${said.crc32} ${said.area}`) || [])
        .find((mask) => !mask.said && (!isById || mask.id === said.id));
      if (fits) fits.said = said;
      return !fits;
    });
  }
}
const strangersIn = ({ f, photo, masks }) => {
  const mine = new Set(masks.map((mask) => mask.said));
  return entryOf(f, photo).masks.filter((said) => !mine.has(said)).length;
};

// What was said of an image, in any folder, and of how many of its masks.
function tally(photo) {
  const entries = folders.map((_, f) => reviewOf(f, photo)).filter(Boolean);
  const masks = entries.flatMap((entry) => entry.masks);
  const count = (verdict) => masks.filter((mask) => mask.verdict === verdict).length;
  return {
    verdict: entries.find((entry) => entry.verdict)?.verdict, tag: entries.find((entry) => entry.tag)?.tag,
    accepted: count("accepted"), rejected: count("rejected"), tagged: masks.filter((mask) => mask.tag).length,
    tags: masks.map((mask) => mask.tag).filter(Boolean), any: entries.length > 0,
  };
}

function set(said, change) {
  Object.assign(said, change);
  for (const name of ["verdict", "tag"]) if (!said[name]) delete said[name];
}
function sayOfMask(change) {
  const p = panes.find((one) => one.masks.includes(pinned));
  if (!p) { announce("Select a mask first: click on it, or press ↓."); return; }
  const entry = entryOf(p.f, p.photo);
  const mask = pinned;
  const was = mask.said?.verdict;
  if (!mask.said) entry.masks.push(mask.said = { id: mask.id, crc32: fingerprint(mask, p.photo), area: mask.area });
  set(mask.said, change(mask.said));
  if (!mask.said.verdict && !mask.said.tag) {
    entry.masks.splice(entry.masks.indexOf(mask.said), 1);
    mask.said = undefined;
  }
  keep(p.f, resultOf(p.photo), entry);
  if (passes(mask)) {
    // The others stay as they are.
    showAgain(p, mask);
    if ((was === "rejected") !== (mask.said?.verdict === "rejected")) drawPane(p);
  } else {
    pinned = neighbour(placeOf(mask));
    drawPane(p);
    fillList();
  }
  reviewChanged(p);
}
function sayOfImage(change) {
  const photo = photos[current];
  folders.forEach((_, f) => {
    if (!photo.found[f]) return;
    const entry = entryOf(f, photo);
    set(entry, change(tally(photo)));
    keep(f, resultOf(photo), entry);
  });
  if (!photo.found.some(Boolean)) announce("This image has no masks to review.");
  reviewChanged();
}
// The same verdict again takes it back.
const verdict = (wanted) => (said) => ({ verdict: said.verdict === wanted ? undefined : wanted });

function reviewChanged(p) {
  listClasses();
  showReview();
  if (current < 0) return;
  markTile(current);
  remember();
  if (p) light(panes.find((one) => one.masks.includes(pinned)) || null, pinned);
  else draw();
}

let lastTag = "";
function showReview() {
  const counts = { images: 0, accepted: 0, rejected: 0, tagged: 0 };
  for (const review of reviews) for (const entry of review.values()) {
    counts.images++;
    for (const mask of entry.masks) {
      if (mask.verdict) counts[mask.verdict]++;
      if (mask.tag) counts.tagged++;
    }
  }
  $("review-count").textContent = counts.images ? `(${number(counts.images)} image${counts.images === 1 ? "" : "s"}; masks: ${wording(counts)})` : "";
  if (current < 0) return;
  const photo = photos[current];
  const its = tally(photo);
  for (const name of ["accepted", "rejected"]) {
    $(`${name}-image`).ariaPressed = its.verdict === name;
    $(name).ariaPressed = pinned?.said?.verdict === name;
    $(name).ariaDisabled = !pinned;
  }
  if (document.activeElement !== $("tag-image")) $("tag-image").value = its.tag || "";
  if (document.activeElement !== $("tag")) $("tag").value = pinned?.said?.tag || "";
  $("tag").readOnly = !pinned;
  const strangers = panes.reduce((sum, p) => sum + strangersIn(p), 0);
  $("reviewed").textContent = `Reviewed masks of this image: ${wording(its)}.` +
    (strangers ? ` ${number(strangers)} more verdicts are of masks that are not on this page; they are kept in the review.` : "") +
    (folders.some((_, f) => reviews[f].has(resultOf(photo)) && !reviewOf(f, photo))
      ? " A review of another image with this name is left out." : "");
}
const wording = ({ accepted, rejected, tagged }) =>
  `${number(accepted)} accepted, ${number(rejected)} rejected, ${number(tagged)} tagged`;
function announce(text) {
  for (const one of document.querySelectorAll(".announced")) one.textContent = text;
}

for (const name of ["accepted", "rejected"]) {
  $(name).addEventListener("click", () => sayOfMask(verdict(name)));
  $(`${name}-image`).addEventListener("click", () => sayOfImage(verdict(name)));
}
for (const [id, say] of [["tag", sayOfMask], ["tag-image", sayOfImage]]) {
  const input = $(id);
  // The last tag is offered: T and Enter give it again.
  input.addEventListener("focus", () => {
    if (!input.value && !input.readOnly) input.value = lastTag;
    input.select();
  });
  input.addEventListener("blur", showReview);
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") { event.preventDefault(); $("viewer").focus(); }
    if (event.key === "Enter") { event.preventDefault(); input.dispatchEvent(new Event("change")); $("viewer").focus(); }
  });
  input.addEventListener("change", () => {
    const tag = input.value.trim();
    lastTag = tag || lastTag;
    say(() => ({ tag }));
  });
}
