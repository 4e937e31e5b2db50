// Thumbnails in rows as wide as the page. Where each row is follows from the shapes of its images,
// so that only those near the window are in the page: jumping to the end of thousands of images
// costs what scrolling by some screens does.

const ROW = 200; // px, the height of a row before it is stretched to the width of the page
const GAP = 14;
const CAPTION = 46; // px, as in the style sheet
const NEAR = 800; // px above and below the window
const AT_ONCE = 2; // rows out of sight that are added in a frame
let layout = []; // of each row: its top and height (px), and the places of its images in `listed`
const inPage = new Map(); // elements of rows, by their numbers
let wide = 0;

// Very wide and very tall images get a less extreme frame.
const shape = (photo) => Math.min(2.4, Math.max(0.6, photo.width / photo.height));

function layOut() {
  wide = $("grid").clientWidth;
  layout = [];
  let [top, from, shapes] = [0, 0, 0];
  const add = (until, height) => {
    layout.push({ top, height, from, until });
    top += height + CAPTION + GAP;
    from = until;
    shapes = 0;
  };
  listed.forEach((i, place) => {
    shapes += shape(photos[i]);
    const height = (wide - GAP * (place - from)) / shapes;
    if (height <= ROW) add(place + 1, height);
  });
  if (from < listed.length) add(listed.length, ROW);
  $("grid").style.height = `${top}px`;
  inPage.clear();
  $("grid").replaceChildren();
  fillRows();
}

// The row at a height, or the nearest one.
function rowAt(y) {
  let [low, high] = [0, layout.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (layout[middle].top <= y) low = middle; else high = middle - 1;
  }
  return low;
}
const rowOf = (place) => layout.findIndex((row) => row.until > place);

function fillRows() {
  if (!layout.length) return;
  const top = -$("grid").getBoundingClientRect().top;
  const [first, last] = [rowAt(top - NEAR), rowAt(top + innerHeight + NEAR)];
  for (const [n, row] of inPage) {
    // What has the focus stays, or the keyboard would lose its place.
    if ((n < first || n > last) && !row.contains(document.activeElement)) { row.remove(); inPage.delete(n); }
  }
  for (let n = rowAt(top); n <= rowAt(top + innerHeight); n++) if (!inPage.has(n)) insert(n);
  // The browser takes as long for each image as the script: those out of sight come frame by frame.
  let some = AT_ONCE;
  for (let n = first; n <= last; n++) {
    if (inPage.has(n)) continue;
    if (some-- === 0) { fillSoon(); return; }
    insert(n);
  }
}
let isDue = false;
function fillSoon() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => { isDue = false; fillRows(); });
}
window.addEventListener("scroll", fillSoon, { passive: true });
window.addEventListener("resize", fillSoon);

// In the order of rows, which is that of the tab key.
function insert(n) {
  const { top, height, from, until } = layout[n];
  const tiles = listed.slice(from, until).map((i, k) => tile(i, height, from + k));
  const row = make("div", { className: "row", role: "presentation" }, ...tiles);
  row.style.top = `${top}px`;
  const after = Math.min(...[...inPage.keys()].filter((other) => other > n));
  $("grid").insertBefore(row, inPage.get(after) || null);
  inPage.set(n, row);
}

function tile(i, height, place) {
  const photo = photos[i];
  const counts = photo.found.map((f) => (f ? number(f.masks) : "–")).join(" / ");
  const isUnreadable = !photo.found.some(Boolean);
  const thumb = make("img", {
    className: "thumb", decoding: "async",
    src: `thumbs/${padded(i)}${$("thumbs").value}.jpg`,
    alt: isUnreadable ? photo.missing : `${photo.name} with its masks`,
  });
  const name = make("span", { className: "name", title: photo.name }, path(photo.name));
  const count = make("span", { className: "count" });
  count.dataset.masks = isUnreadable ? "annotations cannot be read" : `${counts} masks`;
  const caption = make("span", { className: "caption" }, name, count);
  const link = make("a", { href: `#${i}` }, thumb, caption);
  const item = make("div", { className: isUnreadable ? "tile unreadable" : "tile", role: "listitem", ariaSetSize: listed.length, ariaPosInSet: place + 1 }, link);
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
  count.title = photo.found.some(Boolean) ? count.textContent : photo.missing;
}
const linkTo = (i) => $("grid").querySelector(`a[href="#${i}"]`);
function markTile(i) {
  const link = linkTo(i);
  if (link) mark(link.parentElement, photos[i]);
}

// Bring the thumbnail at a place of the list into sight, with the focus.
function focusTile(place) {
  if (!(place in listed)) return;
  const { top, height } = layout[rowOf(place)];
  const above = $("grid").getBoundingClientRect().top + top;
  const tools = document.querySelector(".tools");
  const covered = getComputedStyle(tools).position === "sticky" ? tools.offsetHeight : 0;
  const below = above + height + CAPTION;
  if (above < covered) scrollBy(0, above - covered);
  else if (below > innerHeight) scrollBy(0, below - innerHeight);
  fillRows();
  linkTo(listed[place]).focus({ preventScroll: true });
}

// The page's width has changed: lay the same images out in other rows, once it has come to rest,
// and keep in sight what was.
let resting = 0;
new ResizeObserver(() => {
  if ($("grid").clientWidth === wide) return;
  clearTimeout(resting);
  resting = setTimeout(layAgain, 100);
}).observe($("grid"));
new ResizeObserver(fillSoon).observe(document.querySelector("main")); // a section above was opened
function layAgain() {
  const above = $("grid").getBoundingClientRect().top;
  const seen = layout[rowAt(-above)];
  layOut();
  if (seen && above < 0) {
    scrollBy(0, $("grid").getBoundingClientRect().top + layout[rowOf(seen.from)].top - above - seen.top);
  }
}

$("grid").addEventListener("keydown", (event) => {
  const link = event.target.closest("a");
  const at = link ? listed.indexOf(Number(link.hash.slice(1))) : -1;
  if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const to = {
    ArrowLeft: () => at - 1, ArrowRight: () => at + 1, ArrowUp: () => across(at, -1), ArrowDown: () => across(at, 1),
  }[event.key];
  if (!to) return;
  event.preventDefault();
  focusTile(to());
});

// The place of the image above (-1) or below (1) another one.
function across(at, by) {
  const middles = (row) => {
    let left = 0;
    return listed.slice(row.from, row.until).map((i) => {
      const width = row.height * shape(photos[i]);
      left += width + GAP;
      return left - GAP - width / 2;
    });
  };
  const mine = layout[rowOf(at)];
  const other = layout[rowOf(at) + by];
  if (!other) return -1;
  const middle = middles(mine)[at - mine.from];
  const off = middles(other).map((one) => Math.abs(one - middle));
  return other.from + off.indexOf(Math.min(...off));
}
