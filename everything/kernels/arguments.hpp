// Arguments of the kernels, the same for every instruction set.

// Sizes for one decoder and image: heads, prompt tokens, channels per head, K = h (T - 1) + 1 rows of
// an update, image tokens and their tiles.
struct Shape {
    long h, T, d, K, tokens, tiles;
    long deep() const { return (d + 15) / 16 * 16; }         // d, padded to whole vectors
    long wide() const { return (K - 1 + 15) / 16 * 16; }     // K - 1, likewise
    long valid(long tile) const { return tokens - tile * TILE < TILE ? tokens - tile * TILE : TILE; }
};

struct FirstPass {
    // Image side, tile by tile: (h d, TILE), n0 (TILE), and S_v1 as (h, TILE, deep).
    const float *Q0, *n0, *Z0, *S_k1, *P_k1, *S_v1;
    // P prompts: (h, T, d); G (K, K), upper triangle; Mq (h T, K).
    const float *k0, *v0, *G, *q1, *Mq;
    // Output: (h, T, d), (h T, K), and (tiles TILE).
    float *reads, *gathered, *s1;
};

struct SecondPass {
    const float *Q0, *S_q1, *P_q1, *n1, *Zt0, *Zt1, *z_c, *S_kf, *P_kf, *S_vf;
    // G00 and G11 are upper triangles; M0, M1 (h T, K): qf times the rows of the two updates.
    const float *k0, *v0, *k1, *v1, *Mk, *G00, *G10, *G11, *qf, *M0, *M1, *s1;
    float *reads, *gathered0, *gathered1, *s2;
    float eps;
};

struct Drawing {
    // Image tokens that are drawn, tile by tile: (h d, TILE), S_up (4 F, TILE), P_up likewise or, if
    // `flat`, (4 F), and skip (16 G, TILE) or null.
    const float *Q0, *S_q1, *P_q1, *S_up, *P_up, *skip;
    // P prompts: (h, T, d), Mk (h T, K), M (2 K, 4 F): rows of both updates times the first
    // convolution, and scales s1, s2 (tiles TILE).
    const float *k0, *k1, *Mk, *M, *s1, *s2;
    // Decoder weights: the norm (F), the second convolution (F, 4 G) and its bias (4 G).
    const float *norm_weight, *norm_bias, *weight, *bias;
    // Prompt p's masks are start[p] ... start[p + 1] - 1: their hypernetworks' outputs (G), and the
    // positions in `logits` of their logits (4 rows, 4 columns) over the whole grid.
    const long *start, *position;
    const float *hyper;
    float *logits;
    long F, G, rows, columns, grid_columns, grid_rows;
    bool flat;
    float eps;
};

// One axis of an interpolation: pixel i is the sum over k of weights[i * count + k] times cell
// first[i] + k.
struct Axis {
    long pixels, cells, count;
    const long *first;
    const float *weights;
};

struct Measuring {
    Axis rows, columns;
    // Offset of the view in the image, and the height of the image, px.
    long x, y, height;
    float outer, threshold, inner;  // the cuts of the stability, and between them the mask's
    bool convex;  // bilinear: an interpolated logit lies between its cells
};

// Where the runs of a mask begin and end, alternating: pixel indices in column-major order.
struct Edges {
    long *at = nullptr, count = 0, room = 0;
    bool add(long edge) {
        if (count > 0 && at[count - 1] == edge) return count--, true;
        if (count == room) {
            room = 2 * room + 256;
            long *more = (long *)realloc(at, room * sizeof(long));
            if (more == nullptr) return false;
            at = more;
        }
        at[count++] = edge;
        return true;
    }
};
