// Which images are listed, and in which order; rows.js shows their thumbnails.

let listed = [];
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
  $("found").textContent = `${number(listed.length)} image${listed.length === 1 ? "" : "s"}`;
  listLost(wanted);
  layOut();
}

// Search, order and filters are in the address, as those of masks are: #?only=failed&order=many.
const LISTING = { find: "", order: "name", only: "", "with-class": "", thumbs: "" };
const differing = (usual) => Object.fromEntries(
  Object.keys(usual).filter((id) => $(id).value !== usual[id]).map((id) => [id, $(id).value]));
function setControls(usual, wanted) {
  for (const id of Object.keys(usual)) {
    $(id).value = wanted.get(id) ?? usual[id];
    if ($(id).selectedIndex < 0) $(id).value = usual[id]; // a class that is not there
  }
}
function chooseListed(wanted) {
  const before = JSON.stringify(differing(LISTING));
  setControls(LISTING, wanted);
  if (JSON.stringify(differing(LISTING)) !== before) list();
}
let remembering = 0;
for (const id of Object.keys(LISTING)) {
  $(id).addEventListener(id === "find" ? "input" : "change", () => {
    list();
    // Browsers refuse an address that changes with every letter.
    clearTimeout(remembering);
    remembering = setTimeout(remember, 200);
  });
}
