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

// A rejected mask is hatched, so that it is seen to be one.
function hatch(mask, high, map, value) {
  for (let s = 0; s < mask.strips.length; s += 3) {
    const x = mask.strips[s];
    for (let y = mask.strips[s + 1]; y < mask.strips[s + 2]; y++) if (((x + y) & 15) < 4) map[x * high + y] = value;
  }
}

// Maps are kept column by column, as strips are: filling one is then a few block writes.
function fill(mask, high, map, value) {
  for (let s = 0; s < mask.strips.length; s += 3) {
    map.fill(value, mask.strips[s] * high + mask.strips[s + 1], mask.strips[s] * high + mask.strips[s + 2]);
  }
}

// Masks as the data has them. twin: the mask of the first labels that this one is, as its row and
// their IoU; -1 for none.
const named = (rows) => rows.map(
  ([id, colour, iou, stability, area, box, points, code, twin, shared, level, category], row) =>
    ({ id, colour, iou, stability, area, box, points, code, row, twin, shared, level, category, twins: [] }));

function prepared(rows, photo) {
  const across = before(photo.width, photo.wide);
  const down = before(photo.height, photo.high);
  const scratch = new Uint8Array(photo.wide * photo.high);
  const masks = named(rows);
  for (const mask of masks) mask.strips = strips(mask.code, photo, across, down);
  for (const mask of masks) mask.edge = contour(mask, photo, scratch);
  return masks.sort((a, b) => b.area - a.area);
}
