// Time by stage.

function quantile(sorted, q) {
  const at = q * (sorted.length - 1);
  const below = sorted[Math.floor(at)];
  return below + (at % 1) * (sorted[Math.ceil(at)] - below);
}
const seconds = (s) => (s >= 1 ? `${s.toFixed(2)} s` : `${(1000 * s).toFixed(s < 0.1 ? 1 : 0)} ms`);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// top: end of the axis; larger values are counted in the last bar.
function histogram(name, values, top) {
  const sorted = values.toSorted((a, b) => a - b);
  const bins = new Array(30).fill(0);
  for (const value of values) bins[Math.min(29, Math.floor(value / top * 30))]++;
  const tallest = Math.max(...bins);
  const text = `median ${seconds(quantile(sorted, 0.5))}, 90th percentile ${seconds(quantile(sorted, 0.9))}, maximum ${seconds(sorted.at(-1))}`;
  const svg = drawing("svg", { viewBox: "0 0 300 100", preserveAspectRatio: "none", role: "img", "aria-label": `${name}: ${text}` });
  bins.forEach((count, b) => {
    const height = 100 * count / tallest;
    const title = drawing("title", {}, `${number(count)} images from ${seconds(b * top / 30)}`);
    svg.append(drawing("rect", { x: 10 * b + 1, y: 100 - height, width: 8, height }, title));
  });
  const caption = make("figcaption", {}, make("b", { textContent: name }), make("br"),
    make("small", { textContent: text }));
  const axis = make("div", { className: "axis" }, make("span", { textContent: "0" }),
    make("span", { textContent: `${seconds(top)} and more` }));
  return make("figure", {}, caption, svg, axis);
}

// Mean time per image of each folder as one bar, split by stage.
function shares(timed) {
  const longest = Math.max(...timed.map(({ rows }) => mean(rows.map((row) => row.total))));
  const used = stages.filter((_, s) => timed.some(({ rows }) => rows.some((row) => row.seconds[s] > 0)));
  const bar = ({ label, rows }) => {
    const total = mean(rows.map((row) => row.total));
    const parts = used.map((stage) => {
      const time = mean(rows.map((row) => row.seconds[stages.indexOf(stage)]));
      const part = make("i", { className: `stage-${stage}`, title: `${stage} ${seconds(time)}, ${(100 * time / total).toFixed(0)} %` });
      part.style.width = `${100 * time / longest}%`;
      return part;
    });
    return [make("span", { textContent: label }), make("span", { className: "share" }, ...parts),
      make("span", { className: "n", textContent: seconds(total) })];
  };
  const key = used.map((stage) =>
    make("span", {}, make("i", { className: `stage-${stage}` }), stage));
  return [make("p", { textContent: "Mean time per image, by stage" }),
    make("div", { className: "shares" }, ...timed.flatMap(bar)), make("p", { className: "key" }, ...key)];
}

function timing() {
  const timed = folders.map((folder, f) => ({
    label: folder.label,
    rows: photos.map((photo) => photo.found[f]).filter((found) => found && found.total > 0),
  })).filter(({ rows }) => rows.length);
  if (!timed.length) {
    $("times").replaceChildren(make("p", { textContent: "These annotations have no timing." }));
    return;
  }
  const kinds = [["total", (row) => row.total], ...stages.map((stage, s) => [stage, (row) => row.seconds[s]])];
  const figures = kinds.flatMap(([name, of]) => {
    const all = timed.map(({ label, rows }) => [label, rows.map(of)]);
    const upTo = (q) => Math.max(...all.map(([, values]) => quantile(values.toSorted((a, b) => a - b), q)));
    const top = upTo(0.99) || upTo(1);
    if (!(top > 0)) return [];
    return all.map(([label, values]) => histogram(timed.length > 1 ? `${name}, ${label}` : name, values, top));
  });
  const grid = make("div", { className: "histograms" }, ...figures);
  // All folders of a stage in one row.
  const across = timed.length * Math.max(1, Math.floor(4 / timed.length));
  if (timed.length > 1) grid.style.gridTemplateColumns = `repeat(${across}, minmax(0, 1fr))`;
  $("times").replaceChildren(...shares(timed), grid);
}
$("timing").addEventListener("toggle", timing, { once: true });

recall();
listClasses();
read();
list();
showReview();
route();
