// From a prompt's weights to mask logits; formulas in decoding/shared_image.py and upscale.py.

// LayerNorm and GELU of u (F, TILE), in place; u is centred over F.
inline void normed(const Drawing &p, float *u) {
    for (long c = 0; c < TILE; c += LANES) {
        vec sum = {};
        for (long f = 0; f < p.F; f++) sum += load(u + f * TILE + c) * load(u + f * TILE + c);
        vec scale = 1.0f / square_root(sum * (1.0f / p.F) + p.eps);
        for (long f = 0; f < p.F; f++) {
            float *x = u + f * TILE + c;
            store(x, gelu(load(x) * scale * p.norm_weight[f] + p.norm_bias[f]));
        }
    }
}

// Copy one mask's values (4, 4, TILE) for all sub-cells to their pixels in `out`.
inline void placed(const Drawing &p, long first, long valid, const float *values, float *out) {
    const long pitch = 4 * p.grid_columns;
    for (long c = 0; c < valid; c++) {
        const long y = (first + c) / p.columns, x = (first + c) % p.columns;
        for (long r = 0; r < 4; r++)
            for (long q = 0; q < 4; q++) {
                const long coarse = r / 2 * 2 + q / 2, fine = r % 2 * 2 + q % 2;
                out[(4 * y + r) * pitch + 4 * x + q] = values[(coarse * 4 + fine) * TILE + c];
            }
    }
}

inline bool draw(const Shape &s, long prompts, const Drawing &p) {
    const long n = s.h * s.T, hd = s.h * s.d, small = n * s.d, F = p.F, G = p.G;
    long most = 0;
    for (long i = 0; i < prompts; i++)
        most = p.start[i + 1] - p.start[i] > most ? p.start[i + 1] - p.start[i] : most;
    Memory memory((n + 2 * s.K + 1 + F + 4 * G + 16 * most) * TILE);
    if (!memory.start) return false;
    float *w = memory.take(n * TILE), *a = memory.take(2 * s.K * TILE), *a1 = a + s.K * TILE;
    float *r = memory.take(TILE), *u = memory.take(F * TILE), *features = memory.take(4 * G * TILE);
    float *values = memory.take(16 * most * TILE);
    for (long i = 0; i < prompts; i++) {
        const long masks = p.start[i + 1] - p.start[i];
        for (long tile = 0; tile < s.tiles; tile++) {
            const long image = tile * hd * TILE;
            const float *s1 = p.s1 + (i * s.tiles + tile) * TILE;
            const float *s2 = p.s2 + (i * s.tiles + tile) * TILE;
            by_head<false>(s, p.k0 + i * small, p.Q0 + image, w);
            mix(s, w, a);
            layer1_scores(s, p.k1 + i * small, p.Mk + i * n * s.K, p.S_q1 + image, p.P_q1 + image,
                          s1, a, w);
            mix(s, w, a1);
            for (long c = 0; c < TILE; c++) r[c] = s1[c] * s2[c];
            scaled(s.K, r, a);
            scaled(s.K, s2, a1);
            for (long sub = 0; sub < 4; sub++) {
                const long at = (tile * 4 + sub) * F * TILE;
                for (long f = 0; f < F; f++)
                    for (long c = 0; c < TILE; c++)
                        u[f * TILE + c] = r[c] * p.S_up[at + f * TILE + c] +
                                          (p.flat ? p.P_up[sub * F + f] : p.P_up[at + f * TILE + c]);
                product<true>(F, 2 * s.K, {p.M + (i * 2 * s.K * 4 + sub) * F, 1, 4 * F}, a, u);
                normed(p, u);
                for (long g = 0; g < 4 * G; g++)
                    for (long c = 0; c < TILE; c++)
                        features[g * TILE + c] =
                            p.skip ? p.skip[((tile * 4 + sub) * 4 * G + g) * TILE + c] + p.bias[g]
                                   : p.bias[g];
                product<true>(4 * G, F, {p.weight, 1, 4 * G}, u, features);
                for (long g = 0; g < 4 * G * TILE; g += LANES)
                    store(features + g, gelu(load(features + g)));
                for (long fine = 0; fine < 4; fine++)
                    for (long m = 0; m < masks; m++)
                        product<false>(1, G, {p.hyper + (p.start[i] + m) * G, G, 1},
                                       features + fine * G * TILE,
                                       values + ((m * 4 + sub) * 4 + fine) * TILE);
            }
            for (long m = 0; m < masks; m++)
                placed(p, tile * TILE, s.valid(tile), values + m * 16 * TILE,
                       p.logits + p.position[p.start[i] + m] * 16 * p.grid_rows * p.grid_columns);
        }
    }
    return true;
}
