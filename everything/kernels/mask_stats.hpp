// Measures masks at full resolution (pipeline/mask_stats.py), column by column, without storing them.

inline long smallest(long a, long b) { return a < b ? a : b; }

// The pixels [start, stop) of an axis whose interpolation uses any of the cells from ... to.
inline void within(const Axis &axis, long from, long to, long *start, long *stop) {
    *start = 0, *stop = axis.pixels;
    while (*start < *stop && axis.first[*start] + axis.count <= from) ++*start;
    while (*stop > *start && axis.first[*stop - 1] > to) --*stop;
}

// Logits interpolated along rows only: V (cells, pitch) for pixel rows top ... bottom and cell columns
// left ... right, transposed so that a column is contiguous; minimum and maximum of every CHUNK rows
// of a column.
struct Upright {
    const long top, left, pitch, chunks;
    float *V, *least, *most;
};

inline void upright(const Measuring &p, const float *logits, long right, long bottom, Upright &to) {
    float strip[LANES];
    for (long y = to.top; y < bottom; y++) {
        const float *weights = p.rows.weights + y * p.rows.count;
        const float *cells = logits + p.rows.first[y] * p.columns.cells;
        const long row = y - to.top;
        for (long c = to.left; c < right; c += LANES) {
            const long n = smallest(LANES, right - c);
            if (n == LANES) {
                vec sum = {};
                for (long k = 0; k < p.rows.count; k++)
                    sum += weights[k] * load(cells + k * p.columns.cells + c);
                store(strip, sum);
            } else {
                for (long i = 0; i < n; i++) {
                    strip[i] = 0;
                    for (long k = 0; k < p.rows.count; k++)
                        strip[i] += weights[k] * cells[k * p.columns.cells + c + i];
                }
            }
            for (long i = 0; i < n; i++) to.V[(c - to.left + i) * to.pitch + row] = strip[i];
        }
    }
    const long rows = bottom - to.top;
    for (long c = 0; c < right - to.left; c++) {
        float *column = to.V + c * to.pitch;
        for (long y = rows; y < to.pitch; y++) column[y] = column[rows - 1];
        for (long chunk = 0; chunk < to.chunks; chunk++) {
            vec low = load(column + chunk * CHUNK), high = low;
            for (long y = LANES; y < CHUNK; y += LANES) {
                vec x = load(column + chunk * CHUNK + y);
                low = smaller(low, x), high = larger(high, x);
            }
            float least = low[0], most = high[0];
            for (int i = 1; i < LANES; i++) {
                least = low[i] < least ? low[i] : least;
                most = high[i] > most ? high[i] : most;
            }
            to.least[c * to.chunks + chunk] = least, to.most[c * to.chunks + chunk] = most;
        }
    }
}

// Append the positions, from `at`, where the flags (0 or 1) of a column change, and its end if the last
// flag is set. An edge equal to the previous one removes both: the run continues in this column.
inline bool changes(const unsigned char *flags, long rows, long at, Edges &edges) {
    unsigned long long before = 0;
    for (long y = 0; y < rows; y += 8) {
        unsigned long long word;
        __builtin_memcpy(&word, flags + y, 8);
        unsigned long long change = word ^ (word << 8 | before);
        before = word >> 56;
        for (; change != 0; change &= change - 1) {
            const long edge = y + __builtin_ctzll(change) / 8;
            if (edge < rows && !edges.add(at + edge)) return false;
        }
    }
    return !flags[rows - 1] || edges.add(at + rows);
}

// Measure one mask from its logits (rows.cells, columns.cells): pixel counts above the outer, the mask's
// and the inner cut, box, and edges. False if memory is not enough.
inline bool look(const Measuring &p, const float *logits, long *counts, Edges &edges) {
    long x0 = p.columns.cells, x1 = -1, y0 = p.rows.cells, y1 = -1;
    float greatest = 0;
    for (long y = 0; y < p.rows.cells; y++)
        for (long x = 0; x < p.columns.cells; x++) {
            const float value = logits[y * p.columns.cells + x];
            greatest = value > greatest ? value : -value > greatest ? -value : greatest;
            if (value > p.outer) {
                x0 = x < x0 ? x : x0, x1 = x > x1 ? x : x1;
                y0 = y < y0 ? y : y0, y1 = y;
            }
        }
    for (int i = 0; i < 7; i++) counts[i] = 0;
    if (!p.convex) x0 = 0, y0 = 0, x1 = p.columns.cells - 1, y1 = p.rows.cells - 1;
    long left, right, top, bottom;
    within(p.columns, x0, x1, &left, &right);
    within(p.rows, y0, y1, &top, &bottom);
    if (x1 < 0 || left >= right || top >= bottom) return true;

    const long first = p.columns.first[left];
    const long last = p.columns.first[right - 1] + p.columns.count;
    const long chunks = (bottom - top + CHUNK - 1) / CHUNK, pitch = chunks * CHUNK;
    Memory memory((last - first) * (pitch + 2 * chunks) + pitch / 2 + 64);
    if (!memory.start) return false;
    Upright u = {top, first, pitch, chunks, memory.take((last - first) * pitch),
                 memory.take((last - first) * chunks), memory.take((last - first) * chunks)};
    unsigned char *flags = (unsigned char *)memory.take(pitch / 4);
    unsigned char *any = (unsigned char *)memory.take(pitch / 4);
    upright(p, logits, last, bottom, u);
    __builtin_memset(any, 0, pitch);

    // Interpolated logits lie between those of their cells, up to rounding.
    const float doubt = p.convex ? 4e-6f * greatest : __builtin_inff();
    long area = 0, outer = 0, inner = 0;
    long box_left = -1, box_right = -1;
    for (long x = left; x < right; x++) {
        const float *weights = p.columns.weights + x * p.columns.count;
        const long from = p.columns.first[x] - first;
        bool set = false;
        for (long chunk = 0; chunk < chunks; chunk++) {
            float least = u.least[from * chunks + chunk], most = u.most[from * chunks + chunk];
            for (long k = 1; k < p.columns.count; k++) {
                const float low = u.least[(from + k) * chunks + chunk];
                const float high = u.most[(from + k) * chunks + chunk];
                least = low < least ? low : least, most = high > most ? high : most;
            }
            unsigned char *flag = flags + chunk * CHUNK;
            const long valid = smallest(CHUNK, bottom - top - chunk * CHUNK);
            if (most + doubt <= p.outer) {
                __builtin_memset(flag, 0, CHUNK);
                continue;
            }
            if (least - doubt > p.inner) {
                __builtin_memset(flag, 1, CHUNK);
                __builtin_memset(any + chunk * CHUNK, 1, valid);
                outer += valid, area += valid, inner += valid;
                set = true;
                continue;
            }
            ivec outers = {}, areas = {}, inners = {};
            for (long y = 0; y < CHUNK; y += LANES) {
                vec sum = {};
                const float *cells = u.V + from * pitch + chunk * CHUNK + y;
                for (long k = 0; k < p.columns.count; k++) sum += weights[k] * load(cells + k * pitch);
                if (y + LANES > valid)
                    for (int i = 0; i < LANES; i++) sum[i] = y + i < valid ? sum[i] : -__builtin_inff();
                ivec mask = sum > p.threshold;
                outers -= sum > p.outer, areas -= mask, inners -= sum > p.inner;
                bytes marks = __builtin_convertvector(mask & 1, bytes);
                __builtin_memcpy(flag + y, &marks, LANES);
                bytes before;
                __builtin_memcpy(&before, any + chunk * CHUNK + y, LANES);
                before |= marks;
                __builtin_memcpy(any + chunk * CHUNK + y, &before, LANES);
            }
            long found = 0;
            for (int i = 0; i < LANES; i++) {
                outer += outers[i], found += areas[i], inner += inners[i];
            }
            area += found;
            set = set || found > 0;
        }
        if (!set) continue;
        box_left = box_left < 0 ? x : box_left, box_right = x;
        const long at = (x + p.x) * p.height + top + p.y;
        if (!changes(flags, bottom - top, at, edges)) return false;
    }
    counts[0] = outer, counts[1] = area, counts[2] = inner;
    if (area == 0) return true;
    long box_top = 0, box_bottom = bottom - top - 1;
    while (!any[box_top]) box_top++;
    while (!any[box_bottom]) box_bottom--;
    counts[3] = box_left, counts[4] = top + box_top, counts[5] = box_right, counts[6] = top + box_bottom;
    return true;
}
