// Thumbnails of the images, in rows as wide as the page. Each row is laid out on its own, so that
// scrolling costs the same everywhere among thousands of images.

const BATCH = 60;
const ROW = 200; // px, the height of a row before it is stretched to the width of the page
const GAP = 14;
let listed = [];
let drawn = 0;
let whole = 0; // how many of the drawn images are in full rows
const masksOf = (photo) => Math.max(0, ...photo.found.map((f) => (f ? f.masks : 0)));
const secondsOf = (photo) => Math.max(0, ...photo.found.map((f) => (f ? f.total : 0)));
const orders = {
  name: (a, b) => a - b,
  many: (a, b) => masksOf(photos[b]) - masksOf(photos[a]) || a - b,
  few: (a, b) => masksOf(photos[a]) - masksOf(photos[b]) || a - b,
  slow: (a, b) => secondsOf(photos[b]) - secondsOf(photos[a]) || a - b,
};

const images = {
  "": () => true,
  failed: (photo) => photo.reasons.some(Boolean),
  none: (photo) => masksOf(photo) === 0,
  open: (photo) => !tally(photo).any,
  reviewed: (photo) => tally(photo).any,
  accepted: (photo) => tally(photo).verdict === "accepted",
  rejected: (photo) => tally(photo).verdict === "rejected",
};
const hasClass = (photo, name) => (photo.classes || []).includes(name) || tally(photo).tags.includes(name);

// Images that failed in every folder have no thumbnail: their names and reasons.
const withTile = new Set(photos.map((photo) => photo.name));
const lost = index.failures.filter((failure) => !withTile.has(failure.name));
const LOST = 500;
function listLost(wanted) {
  const some = $("only").value === "failed" ? lost.filter((one) => one.name.toLowerCase().includes(wanted)) : [];
  const items = some.slice(0, LOST).map((one) => make("li", {}, make("b", { textContent: one.name }), ` ${one.reason}`));
  if (some.length > LOST) items.push(make("li", { textContent: `and ${number(some.length - LOST)} more: see Failures above` }));
  $("lost").replaceChildren(...items);
  if (some.length) $("found").textContent += `, ${number(some.length)} without a result`;
}

function list() {
  const wanted = $("find").value.toLowerCase();
  const only = images[$("only").value];
  const name = $("with-class").value.slice(1);
  listed = photos.map((_, i) => i).filter((i) => photos[i].name.toLowerCase().includes(wanted) &&
    only(photos[i]) && (!name || hasClass(photos[i], name)));
  listed.sort(orders[$("order").value]);
  drawn = 0;
  whole = 0;
  wide = $("grid").clientWidth;
  $("grid").replaceChildren();
  $("found").textContent = `${number(listed.length)} image${listed.length === 1 ? "" : "s"}`;
  listLost(wanted);
  addTiles();
}

function addTiles() {
  drawn = Math.min(listed.length, drawn + BATCH);
  const kept = whole;
  const width = wide; // asking the page for it now would cost a layout of what is half done
  let row = [];
  let shapes = 0;
  const last = $("grid").lastChild?.lastChild;
  if (last && !last.full) last.remove();
  const rows = [];
  for (const i of listed.slice(kept, drawn)) {
    row.push(i);
    shapes += shape(photos[i]);
    const height = (width - GAP * (row.length - 1)) / shapes;
    if (height > ROW) continue;
    rows.push(rowOf(row, height, true));
    whole += row.length;
    row = [];
    shapes = 0;
  }
  if (row.length) rows.push(rowOf(row, Math.min(ROW, (width - GAP * (row.length - 1)) / shapes), false));
  // Far from the window a whole block is skipped: with thousands of images, even asking each row
  // whether it is near would take too long for a frame.
  const block = make("div", { className: "block" }, ...rows);
  block.role = "presentation";
  block.style.containIntrinsicHeight = `auto ${Math.round(rows.reduce((sum, one) => sum + one.high, 0))}px`;
  $("grid").append(block);
}

// Very wide and very tall images get a less extreme frame.
const shape = (photo) => Math.min(2.4, Math.max(0.6, photo.width / photo.height));

function rowOf(some, height, full) {
  const row = make("div", { className: "row", full, high: height + 28 + GAP }, ...some.map((i) => tile(i, height)));
  row.role = "presentation";
  return row;
}

function tile(i, height) {
  const photo = photos[i];
  const counts = photo.found.map((f) => (f ? number(f.masks) : "–")).join(" / ");
  const thumb = make("img", {
    className: "thumb", loading: "lazy", decoding: "async",
    src: `thumbs/${padded(i)}${$("thumbs").value}.jpg`, alt: `${photo.name} with its masks`,
  });
  const name = make("span", { className: "name", title: photo.name }, path(photo.name));
  const count = make("span", { className: "count" });
  count.dataset.masks = `${counts} masks`;
  const caption = make("span", { className: "caption" }, name, count);
  const item = make("div", { className: "tile" }, make("a", { href: `#${i}` }, thumb, caption));
  item.role = "listitem";
  item.style.width = `${height * shape(photo)}px`;
  thumb.style.height = `${height}px`;
  mark(item, photo);
  return item;
}

// What the review says of an image, on its thumbnail.
function mark(item, photo) {
  const { verdict, tag, accepted, rejected } = tally(photo);
  item.dataset.verdict = verdict || "";
  const count = item.querySelector(".count");
  count.textContent = [verdict && `${{ accepted: "✓", rejected: "✗" }[verdict]} ${verdict}`, tag, count.dataset.masks,
    accepted && `${number(accepted)} ✓`, rejected && `${number(rejected)} ✗`].filter(Boolean).join(" · ");
}
function markTile(i) {
  const link = $("grid").querySelector(`a[href="#${i}"]`);
  if (link) mark(link.parentElement, photos[i]);
}

// The page's width has changed: lay the same images out in other rows, once it has come to rest,
// and keep in sight what was.
let wide = 0;
let resting = 0;
new ResizeObserver(() => {
  if ($("grid").clientWidth === wide) return;
  clearTimeout(resting);
  resting = setTimeout(layAgain, 100);
}).observe($("grid"));
function layAgain() {
  const seen = [...$("grid").querySelectorAll("a")].find((link) => link.getBoundingClientRect().bottom > 0);
  const top = seen?.getBoundingClientRect().top;
  wide = $("grid").clientWidth;
  const until = drawn;
  drawn = Math.max(0, until - BATCH);
  whole = 0;
  $("grid").replaceChildren();
  addTiles();
  const again = seen && $("grid").querySelector(`a[href="${seen.getAttribute("href")}"]`);
  if (again && scrollY > 0) scrollBy(0, again.getBoundingClientRect().top - top);
}

const observer = new IntersectionObserver((entries) => {
  if (!entries.some((entry) => entry.isIntersecting) || drawn === listed.length) return;
  addTiles();
  // Observe again: without it, jumping to the end twice in a row would count as one intersection.
  observer.unobserve($("more"));
  observer.observe($("more"));
}, { rootMargin: "1500px" });
observer.observe($("more"));
$("find").addEventListener("input", list);
$("thumbs").addEventListener("change", list);
for (const id of ["order", "only", "with-class"]) $(id).addEventListener("change", list);

$("grid").addEventListener("keydown", (event) => {
  const links = [...$("grid").querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  if (at < 0) return;
  const to = {
    ArrowLeft: () => at - 1, ArrowRight: () => at + 1,
    ArrowUp: () => across(links, at, -1), ArrowDown: () => across(links, at, 1),
  }[event.key];
  const link = to && links[to()];
  if (!link) return;
  event.preventDefault();
  link.focus();
});

// The image above (-1) or below (1) another one, in the next row.
function across(links, at, by) {
  const box = links[at].getBoundingClientRect();
  let row = null;
  let best = -1;
  let least = Infinity;
  for (let i = at + by; links[i]; i += by) {
    const other = links[i].getBoundingClientRect();
    if (other.top === box.top) continue;
    if (row !== null && other.top !== row) break;
    row = other.top;
    const off = Math.abs(other.left + other.width / 2 - box.left - box.width / 2);
    if (off < least) { least = off; best = i; }
  }
  return best;
}
