// The viewer: one image with its masks.

let current = -1;
const title = document.title;

// The masks of an image in each folder, null if they are missing. They come as scripts, because a
// page opened from disk may not fetch files.
const arriving = new Map();
window.everythingPhoto = (i, found) => arriving.get(i)?.give(found);
function rowsFor(i) {
  if (!arriving.has(i)) {
    const script = make("script", { src: `data/${padded(i)}.js` });
    const arrival = {};
    arrival.promise = new Promise((give) => { arrival.give = give; });
    script.onload = script.onerror = () => { script.remove(); arriving.delete(i); arrival.give(null); };
    arriving.set(i, arrival);
    document.head.append(script);
  }
  return arriving.get(i).promise;
}

function open(i) {
  current = i;
  pinned = null;
  const photo = photos[i];
  $("viewer-name").replaceChildren(path(photo.name));
  const place = listed.indexOf(i);
  $("place").textContent = place < 0 ? "" : `${number(place + 1)} of ${number(listed.length)}`;
  // Not `disabled`, which would take the focus and with it the keyboard shortcuts.
  $("previous").ariaDisabled = place <= 0;
  $("next").ariaDisabled = place < 0 || place === listed.length - 1;
  $("shown").textContent = "Loading…";
  if (!$("viewer").open) $("viewer").showModal();
  document.title = `${photo.name} – ${title}`;
  announce("");
  rowsFor(i).then((found) => {
    if (current !== i) return;
    if (found) show(i, found);
    else $("shown").textContent = "The masks of this image are missing: the folder data is not beside this page.";
  });
}

function show(i, found) {
  const photo = photos[i];
  panes = found.map((rows, f) => pane(photo, i, rows, f));
  $("panes").replaceChildren(...panes.map((p) => p.figure));
  link(panes);
  panes.forEach(attach);
  arrange();
  zoom({ scale: 1, x: 0, y: 0 });
  spread();
  draw();
  const wanted = address();
  const p = panes[Number(wanted.get("pane"))];
  const mask = p && wanted.has("mask") && p.masks.find((one) => one.id === Number(wanted.get("mask")));
  if (mask && passes(mask)) { pinned = mask; light(p, mask); }
}

function step(by) {
  const place = listed.indexOf(current) + by;
  if (place >= 0 && place < listed.length) location.replace(`#${listed[place]}`);
}

// The open image, the filters and the selected mask are in the address, so that Back works and
// what is seen can be linked to: #12?level=part&iou=50&mask=3&pane=0, and what is listed.
const address = () => new URLSearchParams(location.hash.split("?")[1] || "");
const query = (wanted) => (String(wanted) ? `?${wanted}` : "");
function remember() {
  const wanted = new URLSearchParams({ ...differing(LISTING), ...(current < 0 ? {} : chosen()) });
  if (current >= 0) {
    panes.forEach((p, f) => {
      if (p.masks.includes(pinned)) { wanted.set("mask", pinned.id); wanted.set("pane", f); }
    });
  }
  history.replaceState(null, "", `#${current < 0 ? "" : current}${query(wanted)}`);
}

function route() {
  const found = /^#(\d*)(\?|$)/.exec(location.hash);
  const i = found?.[1] ? Number(found[1]) : -1;
  // Without a query, as from the grid, the filters stay as they are.
  if (found?.[2]) {
    chooseListed(address());
    if (photos[i]) choose(address());
  }
  if (photos[i]) { open(i); if (!found[2]) remember(); }
  else if ($("viewer").open) { current = -1; document.title = title; $("viewer").close(); }
}
window.addEventListener("hashchange", route);

function leave() {
  const i = current;
  document.title = title;
  $("viewer").close(); // first, since it gives the focus back to where it was before
  current = -1;
  if ($("only").value || $("with-class").value) list();
  history.pushState(null, "", `#${query(new URLSearchParams(differing(LISTING)))}`);
  focusTile(listed.indexOf(i));
}
function back() {
  if (pinned) { pinned = null; remember(); light(null, null); } else leave();
}
$("viewer").addEventListener("cancel", (event) => { event.preventDefault(); back(); });
$("close").addEventListener("click", leave);
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("viewer").addEventListener("keydown", (event) => {
  if (event.key === "Escape") { event.preventDefault(); back(); return; }
  if (["range", "radio", "select-one"].includes(event.target.type) && event.key.startsWith("Arrow")) return;
  if (event.target.type === "select-one" && event.key.length === 1) return; // looks for an option
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const act = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    ArrowUp: () => stepMask(-1), ArrowDown: () => stepMask(1),
    m: () => $("visible").click(),
    a: () => $("accepted").click(), r: () => $("rejected").click(), t: () => $("tag").focus(),
    A: () => $("accepted-image").click(), R: () => $("rejected-image").click(), T: () => $("tag-image").focus(),
    s: saveReview,
    1: () => setLevel("whole"), 2: () => setLevel("part"), 3: () => setLevel("subpart"),
    4: () => setLevel("all"),
    "+": () => zoomMiddle(1.5), "=": () => zoomMiddle(1.5), "-": () => zoomMiddle(1 / 1.5),
    0: () => $("fit").click(),
  }[event.key];
  if (act) { event.preventDefault(); act(); }
});
