// The viewer: one image with its masks.

let current = -1;
let waiting = null;

// Data comes as scripts, because a page opened from disk may not fetch files.
window.everythingPhoto = (i, found) => {
  if (i === waiting) { waiting = null; show(i, found); }
};

function load(i) {
  waiting = i;
  const script = make("script", { src: `data/${padded(i)}.js` });
  script.onload = () => script.remove();
  script.onerror = () => { script.remove(); $("shown").textContent = "The masks of this image are missing: the folder data is not beside this page."; };
  document.head.append(script);
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
  load(i);
}

function show(i, found) {
  const photo = photos[i];
  panes = found.map((rows, f) => pane(photo, i, rows, f));
  $("panes").replaceChildren(...panes.map((p) => p.figure));
  link();
  arrange();
  zoom({ scale: 1, x: 0, y: 0 });
  spread();
  draw();
}

function step(by) {
  const place = listed.indexOf(current) + by;
  if (place >= 0 && place < listed.length) location.replace(`#${listed[place]}`);
}

// The open image is in the address, so that Back works and images can be linked to.
function route() {
  const i = /^#\d+$/.test(location.hash) ? Number(location.hash.slice(1)) : -1;
  if (photos[i]) open(i);
  else if ($("viewer").open) $("viewer").close();
}
window.addEventListener("hashchange", route);

function leave() {
  const link = $("grid").querySelector(`a[href="#${current}"]`);
  $("viewer").close(); // first, since it gives the focus back to where it was before
  location.hash = "";
  if (link) { link.scrollIntoView({ block: "nearest" }); link.focus(); }
}
function back() {
  if (pinned) { pinned = null; light(null, null); } else leave();
}
$("viewer").addEventListener("cancel", (event) => { event.preventDefault(); back(); });
$("close").addEventListener("click", leave);
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("viewer").addEventListener("keydown", (event) => {
  if (event.key === "Escape") { event.preventDefault(); back(); return; }
  if (event.target.type === "range" || event.altKey || event.ctrlKey || event.metaKey) return;
  const act = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    ArrowUp: () => stepMask(-1), ArrowDown: () => stepMask(1),
    m: () => $("visible").click(),
    "+": () => zoomMiddle(1.5), "=": () => zoomMiddle(1.5), "-": () => zoomMiddle(1 / 1.5),
    0: () => $("fit").click(),
  }[event.key];
  if (act) { event.preventDefault(); act(); }
});
