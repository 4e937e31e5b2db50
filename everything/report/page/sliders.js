// The level and the sliders that filter masks, applied at once, and kept in the address.

// Areas are on a logarithmic scale, from 1 px to the largest mask.
const area = (value) => Math.round(Math.exp(value / 100 * Math.log(index.largest_area)));
const levels = [...document.querySelectorAll("input[name=level]")];
function read() {
  settings.level = levels.find((one) => one.checked).value;
  settings.iou = $("iou").value / 100;
  settings.stability = $("stability").value / 100;
  settings.smallest = $("smallest").value === "0" ? 0 : area($("smallest").value);
  settings.largest = $("largest").value === "100" ? Infinity : area($("largest").value);
  settings.opacity = $("opacity").value / 100;
  settings.alone = $("alone").checked;
  settings.class = $("class").value;
  settings.verdict = $("verdict").value;
  $("iou-value").textContent = settings.iou.toFixed(2);
  $("stability-value").textContent = settings.stability.toFixed(2);
  $("smallest-value").textContent = `${number(settings.smallest)} px`;
  $("largest-value").textContent = settings.largest === Infinity ? "any" : `${number(settings.largest)} px`;
  $("opacity-value").textContent = `${$("opacity").value} %`;
}
let due = false;
function changed() {
  read();
  pinned = null;
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; remember(); draw(); });
}
function setLevel(level) {
  levels.find((one) => one.value === level).checked = true;
  changed();
}
for (const one of levels) {
  one.addEventListener("input", changed);
  // After a click the arrows mean images and masks again; for who came by keyboard, the levels.
  one.addEventListener("click", (event) => { if (event.detail) $("viewer").focus(); });
}

// What differs from the page as it opens, by the names of the controls; and back again.
const FILTERS = { iou: "0", stability: "0", smallest: "0", largest: "100", class: "", verdict: "" };
function chosen() {
  return { ...(settings.level === index.level ? {} : { level: settings.level }), ...differing(FILTERS) };
}
function choose(wanted) {
  const level = levels.find((one) => one.value === (wanted.get("level") || index.level));
  if (level) level.checked = true;
  setControls(FILTERS, wanted);
  read();
}
for (const id of ["iou", "stability", "smallest", "largest", "opacity", "visible", "contours", "alone", "class", "verdict"]) {
  $(id).addEventListener("input", changed);
}

// Histogram of the image's masks above each slider.
function spread() {
  const masks = panes.flatMap((p) => p.masks);
  const largest = Math.log(Math.max(2, index.largest_area));
  bars("iou", masks.map((mask) => mask.iou));
  bars("stability", masks.map((mask) => mask.stability));
  bars("smallest", masks.map((mask) => Math.log(Math.max(1, mask.area)) / largest));
}
function bars(slider, values) {
  const counts = new Array(50).fill(0);
  for (const value of values) counts[Math.max(0, Math.min(49, Math.floor(value * 50)))]++;
  const tallest = Math.max(1, ...counts);
  const path = counts.map((count, b) => {
    const height = count ? Math.max(1, 20 * count / tallest) : 0;
    return `M${2 * b} 20v${-height}h1.5v${height}z`;
  });
  $(`${slider}-spread`).replaceChildren(drawing("path", { d: path.join("") }));
}

// On a small screen, image and list come first.
if (matchMedia("(max-width: 800px)").matches) {
  for (const one of document.querySelectorAll("aside details")) one.open = false;
}
