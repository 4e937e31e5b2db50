"use strict";
(() => {
  const index = JSON.parse(document.getElementById("index").textContent);
  const { photos, folders, stages } = index;
  const palette = index.palette.match(/.{6}/g).map((hex) => parseInt(hex, 16));
  const $ = (id) => document.getElementById(id);
  const BATCH = 120;

  // Everything that comes from files is put in as text, never as markup.
  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    Object.assign(element, properties);
    element.append(...children);
    return element;
  }
  const padded = (n) => String(n).padStart(6, "0");
  const number = (n) => n.toLocaleString("en");
  const css = (colour) => `#${palette[colour % palette.length].toString(16).padStart(6, "0")}`;

  // ---------------------------------------------------------------- the grid of photos

  let listed = [];
  let drawn = 0;
  const masksOf = (photo) => Math.max(0, ...photo.found.map((f) => (f ? f.masks : 0)));
  const secondsOf = (photo) => Math.max(0, ...photo.found.map((f) => (f ? f.total : 0)));
  const orders = {
    name: (a, b) => a - b,
    many: (a, b) => masksOf(photos[b]) - masksOf(photos[a]) || a - b,
    few: (a, b) => masksOf(photos[a]) - masksOf(photos[b]) || a - b,
    slow: (a, b) => secondsOf(photos[b]) - secondsOf(photos[a]) || a - b,
  };

  function list() {
    const wanted = $("find").value.toLowerCase();
    listed = photos.map((_, i) => i).filter((i) => photos[i].name.toLowerCase().includes(wanted));
    listed.sort(orders[$("order").value]);
    drawn = 0;
    $("grid").replaceChildren();
    $("found").textContent = `${number(listed.length)} photo${listed.length === 1 ? "" : "s"}`;
    addTiles();
  }

  function addTiles() {
    const some = listed.slice(drawn, drawn + BATCH);
    drawn += some.length;
    $("grid").append(...some.map(tile));
  }

  function tile(i) {
    const photo = photos[i];
    const counts = photo.found.map((f) => (f ? number(f.masks) : "–")).join(" / ");
    const thumb = make("img", {
      className: "thumb", loading: "lazy", decoding: "async",
      src: `thumbs/${padded(i)}.jpg`, alt: `${photo.name} with its masks`,
    });
    const name = make("span", { className: "name", textContent: photo.name, title: photo.name });
    const count = make("span", { className: "count", textContent: `${counts} masks` });
    const caption = make("span", { className: "caption" }, name, count);
    return make("li", {}, make("a", { href: `#${i}` }, thumb, caption));
  }

  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && drawn < listed.length) addTiles();
  }, { rootMargin: "1500px" }).observe($("more"));
  $("find").addEventListener("input", list);
  $("order").addEventListener("change", list);

  $("grid").addEventListener("keydown", (event) => {
    const links = [...$("grid").querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (at < 0) return;
    const across = getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
    if (by === undefined || !links[at + by]) return;
    event.preventDefault();
    links[at + by].focus();
  });

  // ---------------------------------------------------------------- masks of one photo

  // COCO's compressed run lengths (pycocotools' maskApi.c, rleFrString): 5 bits a character, the
  // 6th says that there are more, the last one's 5th is the sign; from the third run on each is
  // the difference to the run before last.
  function runs(text) {
    const lengths = [];
    for (let i = 0; i < text.length;) {
      let value = 0, shift = 0, code;
      do {
        code = text.charCodeAt(i++) - 48;
        value |= (code & 31) << shift;
        shift += 5;
      } while (code & 32);
      if (code & 16 && shift < 32) value |= -1 << shift;
      lengths.push(lengths.length > 2 ? value + lengths[lengths.length - 2] : value);
    }
    return lengths;
  }

  // For each pixel in a row of `of`: how many of n preview pixels have their centres before it.
  function before(of, n) {
    const counts = new Int32Array(of + 1);
    for (let i = 0; i < n; i++) counts[Math.floor((i + 0.5) * of / n) + 1]++;
    for (let i = 1; i <= of; i++) counts[i] += counts[i - 1];
    return counts;
  }

  // A mask as vertical strips (x, first y, last y + 1) of the preview, straight from its code.
  function strips(text, photo, across, down) {
    const out = [];
    const add = (column, from, to) => {
      const x = across[column];
      if (across[column + 1] > x && down[to] > down[from]) out.push(x, down[from], down[to]);
    };
    let at = 0;
    runs(text).forEach((length, i) => {
      const end = at + length;
      if (i % 2 && length) {
        let column = Math.floor(at / photo.height);
        let from = at - column * photo.height;
        for (let left = length; left > 0; column++, from = 0) {
          const to = Math.min(photo.height, from + left);
          add(column, from, to);
          left -= to - from;
        }
      }
      at = end;
    });
    return Int32Array.from(out);
  }

  // Pixels of a mask that have a neighbour outside it; the edge of the photo is not a contour.
  function contour(mask, photo, scratch) {
    const { wide, high } = photo;
    const edge = [];
    fill(mask, high, scratch, 1);
    for (let s = 0; s < mask.strips.length; s += 3) {
      const x = mask.strips[s];
      for (let y = mask.strips[s + 1]; y < mask.strips[s + 2]; y++) {
        const p = x * high + y;
        if ((x > 0 && !scratch[p - high]) || (x < wide - 1 && !scratch[p + high]) ||
            (y > 0 && !scratch[p - 1]) || (y < high - 1 && !scratch[p + 1])) edge.push(p);
      }
    }
    fill(mask, high, scratch, 0);
    return Int32Array.from(edge);
  }

  // Maps are kept column by column, as strips are: filling one is then a few block writes.
  function fill(mask, high, map, value) {
    for (let s = 0; s < mask.strips.length; s += 3) {
      map.fill(value, mask.strips[s] * high + mask.strips[s + 1], mask.strips[s] * high + mask.strips[s + 2]);
    }
  }

  function prepared(rows, photo) {
    const across = before(photo.width, photo.wide);
    const down = before(photo.height, photo.high);
    const scratch = new Uint8Array(photo.wide * photo.high);
    const masks = rows.map(([id, colour, iou, stability, area, box, points, code]) =>
      ({ id, colour, iou, stability, area, box, points, strips: strips(code, photo, across, down) }));
    for (const mask of masks) mask.edge = contour(mask, photo, scratch);
    return masks.sort((a, b) => b.area - a.area);
  }

  // ---------------------------------------------------------------- the viewer

  const settings = { iou: 0, stability: 0, smallest: 0, largest: Infinity, opacity: 0.45 };
  let current = -1;
  let panes = [];
  let pinned = null;
  let waiting = null;

  const passes = (mask) => mask.iou >= settings.iou && mask.stability >= settings.stability &&
    mask.area >= settings.smallest && mask.area <= settings.largest;

  // Data comes as scripts, because a page opened from disk may not fetch files.
  window.everythingPhoto = (i, found) => {
    if (i === waiting) { waiting = null; show(i, found); }
  };

  function load(i) {
    waiting = i;
    const script = make("script", { src: `data/${padded(i)}.js` });
    script.onload = () => script.remove();
    script.onerror = () => { script.remove(); $("shown").textContent = "The masks of this photo are not beside this page."; };
    document.head.append(script);
  }

  function open(i) {
    current = i;
    pinned = null;
    const photo = photos[i];
    $("viewer-name").textContent = photo.name;
    const place = listed.indexOf(i);
    $("place").textContent = place < 0 ? "" : `${number(place + 1)} of ${number(listed.length)}`;
    $("shown").textContent = "Loading…";
    if (!$("viewer").open) $("viewer").showModal();
    load(i);
  }

  function show(i, found) {
    const photo = photos[i];
    panes = found.map((rows, f) => pane(photo, i, rows, f));
    $("panes").replaceChildren(...panes.map((p) => p.figure));
    draw();
  }

  function pane(photo, i, rows, f) {
    const stage = make("div", { className: "stage" });
    if (photo.missing) stage.append(make("span", { className: "missing", textContent: photo.missing }));
    else stage.append(make("img", { src: `photos/${padded(i)}.jpg`, alt: photo.name }));
    const size = { width: photo.wide, height: photo.high };
    const masks = make("canvas", { className: "masks", ...size });
    const one = make("canvas", { className: "highlight", ...size });
    stage.append(masks, one);
    const caption = make("figcaption");
    const figure = make("figure", { className: "pane" }, caption, stage);
    const self = {
      photo, f, figure, stage, caption, rows,
      layer: masks.getContext("2d"), highlight: one.getContext("2d"),
      masks: rows ? prepared(rows, photo) : [], owner: new Int32Array(photo.wide * photo.high),
    };
    stage.addEventListener("pointermove", (event) => { if (!pinned) light(self, under(self, event)[0] || null); });
    stage.addEventListener("pointerleave", () => { if (!pinned) light(self, null); });
    stage.addEventListener("click", (event) => pin(self, under(self, event)));
    return self;
  }

  // Masks at the pointer, the smallest first.
  function under(p, event) {
    const box = p.stage.getBoundingClientRect();
    const { wide, high } = p.photo;
    const scale = Math.min(box.width / wide, box.height / high);
    const x = Math.floor((event.clientX - box.left - (box.width - wide * scale) / 2) / scale);
    const y = Math.floor((event.clientY - box.top) / scale);
    if (x < 0 || y < 0 || x >= wide || y >= high || p.owner[x * high + y] < 0) return [];
    const holds = (mask) => {
      for (let s = 0; s < mask.strips.length; s += 3) {
        if (mask.strips[s] === x && mask.strips[s + 1] <= y && y < mask.strips[s + 2]) return true;
      }
      return false;
    };
    return p.masks.filter((mask) => passes(mask) && holds(mask)).reverse();
  }

  function pin(p, masks) {
    const at = pinned ? masks.indexOf(pinned) : -1;
    pinned = masks[at + 1] || null;
    light(p, pinned || masks[0] || null);
  }

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
    light(null, null);
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
      fill(mask, photo.high, picture, pixel(mask.colour, settings.opacity));
      if ($("contours").checked) {
        const line = pixel(mask.colour, 1);
        for (const at of mask.edge) picture[at] = line;
      }
    });
    paint(p.layer, photo, picture);
    p.figure.dataset.shown = count;
    p.stage.querySelector(".masks").hidden = !$("visible").checked;
    const seconds = photo.found[p.f] ? `, ${photo.found[p.f].total.toFixed(2)} s` : "";
    const label = folders[p.f].label;
    p.caption.textContent = p.rows === null
      ? `${label}: ${photo.reasons[p.f] || "not labelled in this folder"}`
      : `${label}: ${number(count)} of ${number(p.masks.length)} masks${seconds}`;
  }

  // One mask alone, the others faint; the same mask is marked in the list and described.
  function light(p, mask) {
    for (const other of panes) {
      const here = other === p && mask;
      other.stage.classList.toggle("one", Boolean(here));
      const picture = new Uint32Array(other.photo.wide * other.photo.high);
      if (here) {
        fill(mask, other.photo.high, picture, pixel(mask.colour, 0.6));
        for (const at of mask.edge) picture[at] = pixel(mask.colour, 1);
      }
      if (here || other.lit) paint(other.highlight, other.photo, picture);
      other.lit = Boolean(here);
    }
    for (const row of $("list").tBodies[0].rows) row.classList.toggle("on", row.mask === mask && mask !== null);
    describe(mask);
  }

  function describe(mask) {
    if (!mask) {
      const hint = "Point at a mask for its scores and area.";
      $("mask").replaceChildren(make("dd", { className: "hint", textContent: hint }));
      return;
    }
    const facts = [
      ["Mask", `${mask.id}${pinned === mask ? " (kept)" : ""}`],
      ["Predicted IoU", mask.iou.toFixed(3)],
      ["Stability", mask.stability.toFixed(3)],
      ["Area", `${number(mask.area)} px`],
      ["Box", mask.box.map((v) => number(Math.round(v))).join(", ")],
      ["Prompt", mask.points.map((xy) => xy.map((v) => v.toFixed(1)).join(", ")).join("; ") || "–"],
    ];
    $("mask").replaceChildren(...facts.flatMap(([name, value]) =>
      [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  }

  function fillList() {
    const rows = panes.flatMap((p) => p.masks.filter(passes).map((mask) => ({ p, mask })));
    const total = panes.reduce((sum, p) => sum + p.masks.length, 0);
    $("shown").textContent = `${number(rows.length)} of ${number(total)} masks shown`;
    rows.sort((a, b) => a.p.f - b.p.f || b.mask.iou - a.mask.iou);
    $("list").tBodies[0].replaceChildren(...rows.slice(0, 1000).map(({ p, mask }) => {
      const swatch = make("span", { className: "swatch" });
      swatch.style.background = css(mask.colour);
      const name = panes.length > 1 ? `${p.f + 1}: ${mask.id}` : `${mask.id}`;
      const button = make("button", { type: "button" }, swatch, name);
      button.addEventListener("focus", () => { pinned = mask; light(p, mask); });
      const cell = (text) => make("td", { className: "n", textContent: text });
      const row = make("tr", {}, make("td", {}, button), cell(mask.iou.toFixed(3)),
        cell(mask.stability.toFixed(3)), cell(number(mask.area)));
      row.mask = mask;
      row.addEventListener("pointerenter", () => { if (!pinned) light(p, mask); });
      return row;
    }));
  }

  function step(by) {
    const place = listed.indexOf(current) + by;
    if (place >= 0 && place < listed.length) location.replace(`#${listed[place]}`);
  }

  function stepMask(by) {
    const buttons = [...$("list").querySelectorAll("button")];
    const at = buttons.findIndex((button) => button.closest("tr").mask === pinned);
    const next = buttons[Math.min(buttons.length - 1, Math.max(0, at + by))];
    if (next) next.focus();
  }

  // What is open is in the address, so that Back works and a photo can be linked to.
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
    }[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  // ---------------------------------------------------------------- sliders

  // Areas are spread evenly by their logarithm, from 1 px to the largest photo.
  const area = (value) => Math.round(Math.exp(value / 100 * Math.log(index.largest_area)));
  function read() {
    settings.iou = $("iou").value / 100;
    settings.stability = $("stability").value / 100;
    settings.smallest = $("smallest").value === "0" ? 0 : area($("smallest").value);
    settings.largest = $("largest").value === "100" ? Infinity : area($("largest").value);
    settings.opacity = $("opacity").value / 100;
    $("iou-value").textContent = settings.iou.toFixed(2);
    $("stability-value").textContent = settings.stability.toFixed(2);
    $("smallest-value").textContent = `${number(settings.smallest)} px`;
    $("largest-value").textContent = settings.largest === Infinity ? "any" : `${number(settings.largest)} px`;
    $("opacity-value").textContent = `${$("opacity").value} %`;
  }
  let due = false;
  function changed() {
    read();
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; pinned = null; draw(); });
  }
  for (const id of ["iou", "stability", "smallest", "largest", "opacity", "visible", "contours"]) {
    $(id).addEventListener("input", changed);
  }

  // ---------------------------------------------------------------- timing

  const SVG = "http://www.w3.org/2000/svg";
  function quantile(sorted, q) {
    const at = q * (sorted.length - 1);
    const below = sorted[Math.floor(at)];
    return below + (at % 1) * (sorted[Math.ceil(at)] - below);
  }
  const seconds = (s) => (s >= 1 ? `${s.toFixed(2)} s` : `${(1000 * s).toFixed(1)} ms`);

  function histogram(name, values) {
    const sorted = values.toSorted((a, b) => a - b);
    const top = quantile(sorted, 0.99) || 1e-9;
    const bins = new Array(30).fill(0);
    for (const value of values) bins[Math.min(29, Math.floor(value / top * 30))]++;
    const tallest = Math.max(...bins);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 300 100");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    const text = `median ${seconds(quantile(sorted, 0.5))}, 90 % within ${seconds(quantile(sorted, 0.9))}, longest ${seconds(sorted.at(-1))}`;
    svg.setAttribute("aria-label", `${name}: ${text}`);
    bins.forEach((count, b) => {
      const bar = document.createElementNS(SVG, "rect");
      const height = 100 * count / tallest;
      for (const [key, value] of Object.entries({ x: 10 * b + 1, y: 100 - height, width: 8, height })) {
        bar.setAttribute(key, value);
      }
      const title = document.createElementNS(SVG, "title");
      title.textContent = `${number(count)} photos from ${seconds(b * top / 30)}`;
      bar.append(title);
      svg.append(bar);
    });
    const caption = make("figcaption", {}, make("b", { textContent: name }), make("br"),
      make("small", { textContent: text }));
    const axis = make("div", { className: "axis" }, make("span", { textContent: "0" }),
      make("span", { textContent: `${seconds(top)} and more` }));
    return make("figure", {}, caption, svg, axis);
  }

  function timing() {
    const figures = folders.flatMap((folder, f) => {
      const rows = photos.map((photo) => photo.found[f]).filter((found) => found && found.total > 0);
      const of = (name, values) => histogram(folders.length > 1 ? `${folder.label}: ${name}` : name, values);
      const perStage = stages.map((stage, s) => [stage, rows.map((row) => row.seconds[s])]);
      return rows.length === 0 ? [] : [["total", rows.map((row) => row.total)], ...perStage]
        .filter(([, values]) => values.some((value) => value > 0)).map(([name, values]) => of(name, values));
    });
    const none = make("p", { textContent: "These annotations hold no timing." });
    document.querySelector(".histograms").replaceChildren(...(figures.length ? figures : [none]));
  }
  $("timing").addEventListener("toggle", timing, { once: true });

  read();
  list();
  route();
})();
