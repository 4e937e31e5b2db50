// Regions of a tree as logits: see bundled/region_masks.py. Integers, and one product and one sum a
// pixel: compiled once, for every processor.

struct Region {
    long first, last;         // places in the row of basins
    long x0, y0, x1, y1;      // around it and its surroundings, px; x1 and y1 exclusive
};

struct Regions {
    const int *place;         // (height, width)
    long height, width, reach;
    float slope, far;
};

// A mask (h, w) with the 4 neighbours, or with `corners` the 8 neighbours, of its pixels.
inline void grown(const char *mask, long h, long w, bool corners, char *upright, char *out) {
    for (long y = 0; y < h; y++) {
        const char *here = mask + y * w, *above = y ? here - w : here;
        const char *below = y + 1 < h ? here + w : here;
        for (long x = 0; x < w; x++) upright[x] = here[x] | above[x] | below[x];
        const char *sideways = corners ? upright : here;
        char *row = out + y * w;
        for (long x = 0; x < w; x++) row[x] = upright[x];
        for (long x = 1; x < w; x++) row[x] |= sideways[x - 1];
        for (long x = 0; x + 1 < w; x++) row[x] |= sideways[x + 1];
    }
}

// The logits (height, width) of one region; `certain` is added where no contour is near.
inline bool draw_region(const Regions &p, const Region &r, float certain, float *logits) {
    const long h = r.y1 - r.y0, w = r.x1 - r.x0, size = h * w;
    char *memory = (char *)malloc(5 * size + w);
    if (memory == nullptr) return false;
    char *inside = memory, *outside = memory + size, *more = memory + 2 * size;
    char *less = memory + 3 * size, *steps = memory + 4 * size, *upright = memory + 5 * size;
    for (long y = 0; y < h; y++)
        for (long x = 0; x < w; x++) {
            const int place = p.place[(r.y0 + y) * p.width + r.x0 + x];
            const char is = place >= r.first && place < r.last;
            inside[y * w + x] = steps[y * w + x] = is;
            outside[y * w + x] = !is;
        }
    for (long step = 0; step < p.reach; step++) {
        const bool corners = step % 2 == 1;
        grown(inside, h, w, corners, upright, more);
        grown(outside, h, w, corners, upright, less);
        for (long i = 0; i < size; i++) steps[i] += more[i] + !less[i];
        char *last = inside;
        inside = more, more = last;
        last = outside;
        outside = less, less = last;
    }
    for (long i = 0; i < p.height * p.width; i++) logits[i] = -p.far;
    for (long y = 0; y < h; y++) {
        float *row = logits + (r.y0 + y) * p.width + r.x0;
        for (long x = 0; x < w; x++) {
            const float logit = steps[y * w + x] * p.slope - p.far;
            row[x] = steps[y * w + x] == 2 * p.reach + 1 ? logit + certain : logit;
        }
    }
    free(memory);
    return true;
}
