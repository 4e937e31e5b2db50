// All panes show the same part of the image: `scale` times as large as fits, moved by (x, y) px.

let view = { scale: 1, x: 0, y: 0 };
let moved = false; // the pointer that was pressed has dragged the photo: no click

function zoom({ scale, x, y }) {
  scale = Math.min(24, Math.max(1, scale));
  const room = panes.length ? panes[0].stage.getBoundingClientRect() : { width: 0, height: 0 };
  const within = (value, length) => Math.min(0, Math.max(length * (1 - scale), value));
  view = { scale, x: within(x, room.width), y: within(y, room.height) };
  for (const p of panes) {
    p.sheet.style.transform = scale === 1 ? "" : `translate(${view.x}px, ${view.y}px) scale(${scale})`;
    p.stage.classList.toggle("large", scale > 1);
  }
  $("fit").hidden = scale === 1;
  $("zoom-value").textContent = scale.toFixed(1);
}

// What lies at (x, y) px of the stages stays there.
function zoomBy(factor, x, y) {
  const scale = Math.min(24, Math.max(1, view.scale * factor));
  const by = scale / view.scale;
  zoom({ scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by });
}
function zoomMiddle(factor) {
  const room = panes[0].stage.getBoundingClientRect();
  zoomBy(factor, room.width / 2, room.height / 2);
}

function wheel(p, event) {
  event.preventDefault();
  const box = p.stage.getBoundingClientRect();
  const lines = event.deltaMode === 1 ? 30 : 1;
  const factor = Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002));
  zoomBy(factor, event.clientX - box.left, event.clientY - box.top);
}

function grab(p, event) {
  moved = false;
  if (view.scale === 1 || event.button !== 0) return;
  const from = { ...view };
  const drag = (to) => {
    const [dx, dy] = [to.clientX - event.clientX, to.clientY - event.clientY];
    if (!moved && Math.hypot(dx, dy) < 4) return;
    if (!moved) p.stage.setPointerCapture(event.pointerId);
    moved = true;
    zoom({ scale: from.scale, x: from.x + dx, y: from.y + dy });
  };
  const end = () => p.stage.removeEventListener("pointermove", drag);
  p.stage.addEventListener("pointermove", drag);
  for (const last of ["pointerup", "pointercancel"]) p.stage.addEventListener(last, end, { once: true });
}
$("fit").addEventListener("click", () => zoom({ scale: 1, x: 0, y: 0 }));
