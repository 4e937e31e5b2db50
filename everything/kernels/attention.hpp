// Attention between a prompt's few tokens and one tile of image tokens.

// Rows (h T, TILE) (+)= x S, head by head: x (h, T, d), S (h d, TILE).
template <bool ADD>
inline void by_head(const Shape &s, const float *x, const float *S, float *rows) {
    for (long j = 0; j < s.h; j++)
        product<ADD>(s.T, s.d, {x + j * s.T * s.d, s.d, 1}, S + j * s.d * TILE, rows + j * s.T * TILE);
}

// U (K, TILE) = v Z, head by head. The products of the heads' last tokens are added to the last row,
// which must be initialised. v (h, T, d), Z (h d, TILE).
inline void update_rows(const Shape &s, const float *v, const float *Z, float *U) {
    float *last = U + (s.K - 1) * TILE;
    for (long j = 0; j < s.h; j++, v += s.T * s.d, Z += s.d * TILE) {
        product<false>(s.T - 1, s.d, {v, s.d, 1}, Z, U + j * (s.T - 1) * TILE);
        product<true>(1, s.d, {v + (s.T - 1) * s.d, s.d, 1}, Z, last);
    }
}

// Attention weights a (K, TILE) from the tokens' scores (h T, TILE): the softmax over each head's
// tokens without the last one, and a last row of ones.
inline void mix(const Shape &s, float *scores, float *a) {
    for (long j = 0; j < s.h; j++)
        for (long c = 0; c < TILE; c += LANES) {
            float *x = scores + j * s.T * TILE + c;
            vec top = load(x), sum = {};
            for (long t = 1; t < s.T; t++) top = larger(top, load(x + t * TILE));
            for (long t = 0; t < s.T; t++) {
                vec e = exponential(load(x + t * TILE) - top);
                store(x + t * TILE, e);
                sum += e;
            }
            vec scale = 1.0f / sum;
            float *to = a + j * (s.T - 1) * TILE + c;
            for (long t = 0; t < s.T - 1; t++) store(to + t * TILE, load(x + t * TILE) * scale);
        }
    for (long c = 0; c < TILE; c += LANES) store(a + (s.K - 1) * TILE + c, all(1.0f));
}

// rows (n, TILE) *= scale (TILE).
inline void scaled(long n, const float *scale, float *rows) {
    for (long i = 0; i < n; i++, rows += TILE)
        for (long c = 0; c < TILE; c += LANES) store(rows + c, load(rows + c) * load(scale + c));
}

// sums (TILE) += the sum over rows of a * U, both (K, TILE).
inline void add_products(const Shape &s, const float *a, const float *U, float *sums) {
    for (long c = 0; c < TILE; c += LANES) {
        vec sum = load(sums + c);
        for (long i = 0; i < s.K; i++) sum += load(a + i * TILE + c) * load(U + i * TILE + c);
        store(sums + c, sum);
    }
}

inline void inverse_roots(float *sums) {
    for (long c = 0; c < TILE; c += LANES) store(sums + c, 1.0f / square_root(load(sums + c)));
}

// U += G a, for G (K, K) whose lower triangle is zero.
inline void add_upper(const Shape &s, const float *G, const float *a, float *U) {
    for (long i = 0; i < s.K; i += ROWS) {
        long n = s.K - i < ROWS ? s.K - i : ROWS;
        product<true>(n, s.K - i, {G + i * s.K + i, s.K, 1}, a + i * TILE, U + i * TILE);
    }
}

// Scores of layer 1's image-to-token attention: s1 (k1 S_q1 + Mk a) + k1 P_q1.
inline void layer1_scores(const Shape &s, const float *k1, const float *Mk, const float *S,
                          const float *P, const float *s1, const float *a, float *scores) {
    by_head<false>(s, k1, S, scores);
    product<true>(s.h * s.T, s.K, {Mk, s.K, 1}, a, scores);
    scaled(s.h * s.T, s1, scores);
    by_head<true>(s, k1, P, scores);
}

// at (TILE, wide) = the first K - 1 rows of a, transposed; the padding is not written.
inline void turned(const Shape &s, const float *a, float *at) {
    for (long k = 0; k < s.K - 1; k++)
        for (long c = 0; c < TILE; c++) at[c * s.wide() + k] = a[k * TILE + c];
}

// An online softmax over the image, tile by tile. For every row (head j, token t): the maximum score
// so far, the sum of e^(score - maximum), and weighted sums of values.
struct Reader {
    float *top, *sum;   // (h T)
    float *reads;       // (h T, deep): sums of the image side's values
    float *gathered[2]; // (h T, wide) and, for the last row, (h T): sums of the rows of an update
    float *last[2];

    static long size(const Shape &s) { return s.h * s.T * (4 + s.deep() + 2 * s.wide()); }
    Reader(const Shape &s, float *memory) {
        long n = s.h * s.T;
        float *next = memory;
        auto take = [&](long count) { next += count; return next - count; };
        reads = take(n * s.deep());
        gathered[0] = take(n * s.wide()), gathered[1] = take(n * s.wide());
        last[0] = take(n), last[1] = take(n), sum = take(n), top = take(n);
    }
    void begin(const Shape &s) {
        for (float *p = reads; p < top; p++) *p = 0;
        for (long r = 0; r < s.h * s.T; r++) top[r] = -1e30f;
    }
    // Turn scores (h T, TILE) into e^(score - maximum); rescale the sums if the maximum grows.
    void weigh(const Shape &s, long valid, float *scores) {
        for (long r = 0; r < s.h * s.T; r++, scores += TILE) {
            for (long c = valid; c < TILE; c++) scores[c] = -1e30f;
            vec best = all(top[r]), total = {};
            for (long c = 0; c < TILE; c += LANES) best = larger(best, load(scores + c));
            float greatest = top[r];
            for (int i = 0; i < LANES; i++) greatest = best[i] > greatest ? best[i] : greatest;
            if (greatest > top[r]) lower(s, r, exponential(all(top[r] - greatest))[0]);
            top[r] = greatest;
            for (long c = 0; c < TILE; c += LANES) {
                vec e = exponential(load(scores + c) - greatest);
                store(scores + c, e);
                total += e;
            }
            for (int i = 0; i < LANES; i++) sum[r] += total[i];
        }
    }
    void lower(const Shape &s, long r, float factor) {
        sum[r] *= factor;
        for (long i = 0; i < s.deep(); i++) reads[r * s.deep() + i] *= factor;
        for (int u = 0; u < 2; u++) {
            last[u][r] *= factor;
            for (long i = 0; i < s.wide(); i++) gathered[u][r * s.wide() + i] *= factor;
        }
    }
    // Add the image side's values (h, TILE, deep) with weights (h T, TILE).
    void read(const Shape &s, const float *weights, const float *values) {
        for (long j = 0; j < s.h; j++)
            product<true>(s.T, TILE, {weights + j * s.T * TILE, TILE, 1},
                          values + j * TILE * s.deep(), reads + j * s.T * s.deep(), s.deep());
    }
    // Add the rows of update u, transposed, with weights (h T, TILE).
    void gather(const Shape &s, int u, const float *weights, const float *at) {
        product<true>(s.h * s.T, TILE, {weights, TILE, 1}, at, gathered[u], s.wide());
        for (long r = 0; r < s.h * s.T; r++, weights += TILE) {
            vec total = {};
            for (long c = 0; c < TILE; c += LANES) total += load(weights + c);
            for (int i = 0; i < LANES; i++) last[u][r] += total[i];
        }
    }
    // Write reads (h T, d), and gathered rows (h T, K) of update u, divided by the sums of weights.
    void finish_reads(const Shape &s, float *to) const {
        for (long r = 0; r < s.h * s.T; r++)
            for (long i = 0; i < s.d; i++) to[r * s.d + i] = reads[r * s.deep() + i] / sum[r];
    }
    void finish_rows(const Shape &s, int u, float *to) const {
        for (long r = 0; r < s.h * s.T; r++, to += s.K) {
            for (long k = 0; k < s.K - 1; k++) to[k] = gathered[u][r * s.wide() + k] / sum[r];
            to[s.K - 1] = last[u][r] / sum[r];
        }
    }
};
