// The two passes over the image tokens for many prompts; formulas in decoding/image_passes.py. Each
// tile of the image is loaded once and used by all prompts.

inline bool first_pass(const Shape &s, long prompts, const FirstPass &p) {
    const long n = s.h * s.T, hd = s.h * s.d, small = n * s.d;
    Memory memory(prompts * Reader::size(s) + n * TILE + 2 * s.K * TILE + s.wide() * TILE);
    if (!memory.start) return false;
    float *states = memory.take(prompts * Reader::size(s)), *w = memory.take(n * TILE);
    float *a = memory.take(s.K * TILE), *U = memory.take(s.K * TILE);
    float *at = memory.take(s.wide() * TILE);
    for (long i = 0; i < s.wide() * TILE; i++) at[i] = 0;
    for (long i = 0; i < prompts; i++) Reader(s, states + i * Reader::size(s)).begin(s);
    for (long tile = 0; tile < s.tiles; tile++) {
        const long image = tile * hd * TILE;
        for (long i = 0; i < prompts; i++) {
            Reader reader(s, states + i * Reader::size(s));
            float *s1 = p.s1 + (i * s.tiles + tile) * TILE;
            by_head<false>(s, p.k0 + i * small, p.Q0 + image, w);
            mix(s, w, a);
            for (long c = 0; c < TILE; c++) {
                U[(s.K - 1) * TILE + c] = 0;
                s1[c] = p.n0[tile * TILE + c];
            }
            update_rows(s, p.v0 + i * small, p.Z0 + image, U);
            add_upper(s, p.G + i * s.K * s.K, a, U);
            add_products(s, a, U, s1);
            inverse_roots(s1);
            layer1_scores(s, p.q1 + i * small, p.Mq + i * n * s.K, p.S_k1 + image, p.P_k1 + image,
                          s1, a, w);
            reader.weigh(s, s.valid(tile), w);
            scaled(n, s1, w);
            reader.read(s, w, p.S_v1 + tile * s.h * TILE * s.deep());
            turned(s, a, at);
            reader.gather(s, 0, w, at);
        }
    }
    for (long i = 0; i < prompts; i++) {
        Reader reader(s, states + i * Reader::size(s));
        reader.finish_reads(s, p.reads + i * small);
        reader.finish_rows(s, 0, p.gathered + i * n * s.K);
    }
    return true;
}

inline bool second_pass(const Shape &s, long prompts, const SecondPass &p) {
    const long n = s.h * s.T, hd = s.h * s.d, small = n * s.d, KK = s.K * s.K;
    Memory memory(prompts * Reader::size(s) + n * TILE + 3 * s.K * TILE + 2 * s.wide() * TILE);
    if (!memory.start) return false;
    float *states = memory.take(prompts * Reader::size(s)), *w = memory.take(n * TILE);
    float *a = memory.take(s.K * TILE), *a1 = memory.take(s.K * TILE);
    float *U = memory.take(s.K * TILE);
    float *at = memory.take(s.wide() * TILE), *a1t = memory.take(s.wide() * TILE);
    for (long i = 0; i < s.wide() * TILE; i++) at[i] = a1t[i] = 0;
    for (long i = 0; i < prompts; i++) Reader(s, states + i * Reader::size(s)).begin(s);
    for (long tile = 0; tile < s.tiles; tile++) {
        const long image = tile * hd * TILE;
        for (long i = 0; i < prompts; i++) {
            Reader reader(s, states + i * Reader::size(s));
            const float *s1 = p.s1 + (i * s.tiles + tile) * TILE;
            float *s2 = p.s2 + (i * s.tiles + tile) * TILE;
            by_head<false>(s, p.k0 + i * small, p.Q0 + image, w);
            mix(s, w, a);
            layer1_scores(s, p.k1 + i * small, p.Mk + i * n * s.K, p.S_q1 + image, p.P_q1 + image,
                          s1, a, w);
            mix(s, w, a1);

            for (long c = 0; c < TILE; c++) {
                U[(s.K - 1) * TILE + c] = 0;
                s2[c] = p.n1[tile * TILE + c];
            }
            update_rows(s, p.v0 + i * small, p.Zt0 + image, U);
            add_upper(s, p.G00 + i * KK, a, U);
            add_products(s, a, U, s2);
            scaled(1, s1, s2);
            for (long c = 0; c < TILE; c++) {
                U[(s.K - 1) * TILE + c] = p.z_c[tile * TILE + c];
            }
            update_rows(s, p.v1 + i * small, p.Zt1 + image, U);
            product<true>(s.K, s.K, {p.G10 + i * KK, s.K, 1}, a, U);
            add_products(s, a1, U, s2);
            scaled(1, s1, s2);  // both terms so far have s1 as a factor
            for (long k = 0; k < s.K * TILE; k++) U[k] = 0;
            add_upper(s, p.G11 + i * KK, a1, U);
            for (long c = 0; c < TILE; c++) s2[c] += p.eps;
            add_products(s, a1, U, s2);
            inverse_roots(s2);

            by_head<false>(s, p.qf + i * small, p.S_kf + image, w);
            product<true>(n, s.K, {p.M0 + i * n * s.K, s.K, 1}, a, w);
            scaled(n, s1, w);
            product<true>(n, s.K, {p.M1 + i * n * s.K, s.K, 1}, a1, w);
            scaled(n, s2, w);
            by_head<true>(s, p.qf + i * small, p.P_kf + image, w);
            reader.weigh(s, s.valid(tile), w);
            scaled(n, s2, w);
            turned(s, a1, a1t);
            reader.gather(s, 1, w, a1t);
            scaled(n, s1, w);
            turned(s, a, at);
            reader.gather(s, 0, w, at);
            reader.read(s, w, p.S_vf + tile * s.h * TILE * s.deep());
        }
    }
    for (long i = 0; i < prompts; i++) {
        Reader reader(s, states + i * Reader::size(s));
        reader.finish_reads(s, p.reads + i * small);
        reader.finish_rows(s, 0, p.gathered0 + i * n * s.K);
        reader.finish_rows(s, 1, p.gathered1 + i * n * s.K);
    }
    return true;
}
