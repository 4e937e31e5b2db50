// Vectors and matrix products, written once and compiled for several instruction sets (module.cpp).
//
// Included inside one namespace per instruction set, with LANES floats per vector and ROWS output
// rows held in registers. Symbols are those of docs/fast-decoder.md. Arrays of the image are stored
// tile by tile, (channels, TILE) each with TILE image tokens, so that everything computed for a
// prompt and a tile stays in the CPU's inner caches.

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int ivec __attribute__((vector_size(4 * LANES)));
typedef unsigned char bytes __attribute__((vector_size(LANES)));

inline vec load(const float *p) { return *(const vec *)p; }
inline void store(float *p, vec x) { *(vec *)p = x; }
inline vec all(float x) { return x - vec{}; }
inline vec larger(vec a, vec b) { return a > b ? a : b; }
inline vec smaller(vec a, vec b) { return a < b ? a : b; }

// e^x for x <= 0, as 2^k e^r: Taylor's series to the seventh power, |r| <= ln 2 / 2.
inline vec exponential(vec x) {
    x = larger(x, all(-87.0f));
    vec shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
    vec k = shifted - 12582912.0f;
    vec r = x - k * 0.693359375f + k * 2.12194440e-4f;  // ln 2 in two parts
    vec p = all(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    ivec exponent = __builtin_convertvector(k, ivec) << 23;
    return (vec)((ivec)p + exponent);
}

// GELU in its exact form, x (1 + erf(x / sqrt 2)) / 2. erf is z P(z^2) / Q(z^2), fitted here to
// 2e-8 of its value for |z| <= 3.95; beyond that it is 1 in float32.
inline vec gelu(vec x) {
    vec z = larger(smaller(x * 0.70710678f, all(3.95f)), all(-3.95f));
    vec t = z * z;
    vec p = all(2.0259119308204012e-06f);
    p = p * t + 2.8468787597626011e-04f;
    p = p * t + 3.8081579337849074e-03f;
    p = p * t + 5.2875435678801631e-02f;
    p = p * t + 1.9155019654270314e-01f;
    p = p * t + 1.1283791437544173f;
    vec q = all(3.7831849093963784e-05f);
    q = q * t + 1.1707253098254980e-03f;
    q = q * t + 1.5055082204638701e-02f;
    q = q * t + 1.1455958043839197e-01f;
    q = q * t + 5.0308961741122771e-01f;
    q = q * t + 1.0f;
    vec half = x * 0.5f;
    return half + half * (z * p / q);
}

inline vec square_root(vec x) {
    vec root;
    for (int i = 0; i < LANES; i++) root[i] = __builtin_sqrtf(x[i]);
    return root;
}

// A matrix in memory: its element (i, k) is at[i * row + k * column].
struct Matrix {
    const float *at;
    long row, column;
};

// R rows and V vectors of C (+)= A B; B and C have `pitch` floats to a row.
template <int R, int V, bool ADD>
inline void block(long K, Matrix A, const float *B, float *C, long pitch) {
    vec c[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) c[r][v] = ADD ? load(C + r * pitch + v * LANES) : vec{};
    const float *a = A.at;
    for (long k = 0; k < K; k++, a += A.column, B += pitch) {
        vec b[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) b[v] = load(B + v * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) c[r][v] += a[r * A.row] * b[v];
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) store(C + r * pitch + v * LANES, c[r][v]);
}

template <int V, bool ADD>
inline void blocks(long M, long K, Matrix A, const float *B, float *C, long pitch) {
    for (; M >= ROWS; M -= ROWS, A.at += ROWS * A.row, C += ROWS * pitch)
        block<ROWS, V, ADD>(K, A, B, C, pitch);
    switch (M) {
        case 7: return block<7, V, ADD>(K, A, B, C, pitch);
        case 6: return block<6, V, ADD>(K, A, B, C, pitch);
        case 5: return block<5, V, ADD>(K, A, B, C, pitch);
        case 4: return block<4, V, ADD>(K, A, B, C, pitch);
        case 3: return block<3, V, ADD>(K, A, B, C, pitch);
        case 2: return block<2, V, ADD>(K, A, B, C, pitch);
        case 1: return block<1, V, ADD>(K, A, B, C, pitch);
    }
}

// C (M, width) (+)= A (M, K) B (K, width); width is a multiple of 16.
template <bool ADD>
inline void product(long M, long K, Matrix A, const float *B, float *C, long width = TILE) {
    long column = 0;
    for (; column + 2 * LANES <= width; column += 2 * LANES)
        blocks<2, ADD>(M, K, A, B + column, C + column, width);
    for (; column < width; column += LANES)
        blocks<1, ADD>(M, K, A, B + column, C + column, width);
}
