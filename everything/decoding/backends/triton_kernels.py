"""The passes over the image and the drawing as Triton kernels: siblings of everything/kernels/.

The algebra is that of image_passes.py and upscale.py. One program has one prompt: it goes over the
image tokens block by block with a running softmax, so that nothing of size tokens x image tokens is
in memory. Heads are done together: what belongs to T tokens of h heads is a matrix of R = HP TP
rows, of which a head's TP, at least T, are consecutive; by-head products are products with matrices
that are zero outside the blocks of their heads. The row of ones (low_rank.py) is that of the first
head's last token.

This module imports Triton, and is imported only where it is used. With TRITON_INTERPRET=1 it runs
on a CPU.
"""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, no-any-return"
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]


@triton.jit
def _own(
    X,
    p,
    r,
    c,
    H: tl.constexpr,
    T: tl.constexpr,
    D: tl.constexpr,
    TP: tl.constexpr,
    DP: tl.constexpr,
):
    """X (P, h, T, d) of a prompt as (R, C), zero outside each head's block."""
    h, t, k, j = r // TP, r % TP, c // DP, c % DP
    at = p * H * T * D + ((h * T + t) * D)[:, None] + j[None, :]
    inside = ((h < H) & (t < T))[:, None] & (j < D)[None, :] & (h[:, None] == k[None, :])
    return tl.load(X + at, mask=inside, other=0.0)


@triton.jit
def _differences(
    V,
    p,
    r,
    c,
    H: tl.constexpr,
    T: tl.constexpr,
    D: tl.constexpr,
    TP: tl.constexpr,
    DP: tl.constexpr,
):
    """Values (P, h, T, d) of a prompt as (R, C): `rows` of low_rank.py before their map."""
    h, t, k, j = r // TP, r % TP, c // DP, c % DP
    ones = (r == T - 1)[:, None]
    row = tl.where(ones, (k * T + T - 1)[None, :], (h * T + t)[:, None])
    own = (h[:, None] == k[None, :]) & ((t < T - 1) & (h < H))[:, None]
    inside = (own | ones) & ((k < H) & (j < D))[None, :]
    return tl.load(V + p * H * T * D + row * D + j[None, :], mask=inside, other=0.0)


@triton.jit
def _rank(r, H: tl.constexpr, T: tl.constexpr, TP: tl.constexpr):
    """Which of the K rows of an update each of the R rows is, and whether it is one."""
    h, t = r // TP, r % TP
    ones = r == T - 1
    return tl.where(ones, H * (T - 1), h * (T - 1) + t), ones | ((t < T - 1) & (h < H))


@triton.jit
def _form(G, p, r, H: tl.constexpr, T: tl.constexpr, TP: tl.constexpr):
    """G (P, K, K) of a prompt as (R, R)."""
    K = H * (T - 1) + 1
    k, used = _rank(r, H, T, TP)
    return tl.load(
        G + p * K * K + (k * K)[:, None] + k[None, :], mask=used[:, None] & used[None, :], other=0.0
    )


@triton.jit
def _mixed_rows(M, p, r, H: tl.constexpr, T: tl.constexpr, TP: tl.constexpr):
    """M (P, h T, K) of a prompt as (R, R)."""
    K = H * (T - 1) + 1
    k, used = _rank(r, H, T, TP)
    h, t = r // TP, r % TP
    inside = ((h < H) & (t < T))[:, None] & used[None, :]
    return tl.load(
        M + p * H * T * K + ((h * T + t) * K)[:, None] + k[None, :], mask=inside, other=0.0
    )


@triton.jit
def _image(S, c, n, N, H: tl.constexpr, D: tl.constexpr, DP: tl.constexpr):
    """S (h, d, N) at some image tokens as (C, BLOCK)."""
    k, j = c // DP, c % DP
    inside = ((k < H) & (j < D))[:, None] & (n < N)[None, :]
    return tl.load(S + ((k * D + j) * N)[:, None] + n[None, :], mask=inside, other=0.0)


@triton.jit
def _weights(
    scores,
    r,
    H: tl.constexpr,
    T: tl.constexpr,
    HP: tl.constexpr,
    TP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Softmax of scores (R, BLOCK) over the tokens of each head, and the row of ones."""
    h, t = r // TP, r % TP
    x = tl.where((t < T)[:, None], scores, -float("inf"))
    x = tl.reshape(x, (HP, TP, BLOCK))
    e = tl.exp(x - tl.max(x, 1)[:, None, :])
    w = tl.reshape(e / tl.sum(e, 1)[:, None, :], (HP * TP, BLOCK))
    w = tl.where(((t < T - 1) & (h < H))[:, None], w, 0.0)
    return tl.where((r == T - 1)[:, None], 1.0, w)


@triton.jit
def _weights_of_first(
    k0, Q0, r, c, n, N,
    H: tl.constexpr, T: tl.constexpr, D: tl.constexpr, HP: tl.constexpr, TP: tl.constexpr,
    DP: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Weights (R, BLOCK) of the tokens for some image tokens in the first layer."""
    scores = tl.dot(k0, _image(Q0, c, n, N, H, D, DP), input_precision=PRECISION)
    return _weights(scores, r, H, T, HP, TP, BLOCK)


@triton.jit
def _scores(
    q, M, a, scale, S, P, c, n, N,
    H: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores (R, BLOCK) of queries q against keys after the first norm: scale (q S + M a) + q P."""
    w = tl.dot(q, _image(S, c, n, N, H, D, DP), input_precision=PRECISION)
    w += tl.dot(M, a, input_precision=PRECISION)
    own = tl.dot(q, _image(P, c, n, N, H, D, DP), input_precision=PRECISION)
    return w * scale[None, :] + own


@triton.jit
def _running(w, top, total):
    """One step of a running softmax: exponentials of scores w (R, BLOCK), the new maximum and sum,
    and what earlier sums are multiplied with."""
    higher = tl.maximum(top, tl.max(w, 1))
    shrunk = tl.exp(top - higher)
    w = tl.exp(w - higher[:, None])
    return w, higher, total * shrunk + tl.sum(w, 1), shrunk


@triton.jit
def _store_reads(
    reads,
    x,
    p,
    r,
    c,
    H: tl.constexpr,
    T: tl.constexpr,
    D: tl.constexpr,
    TP: tl.constexpr,
    DP: tl.constexpr,
):
    """Store what each head reads of its own channels, x (R, C), as (P, h, T, d)."""
    h, t, k, j = r // TP, r % TP, c // DP, c % DP
    inside = ((h < H) & (t < T))[:, None] & (j < D)[None, :] & (h[:, None] == k[None, :])
    tl.store(reads + p * H * T * D + ((h * T + t) * D)[:, None] + j[None, :], x, mask=inside)


@triton.jit
def _store_gathered(gathered, x, p, r, H: tl.constexpr, T: tl.constexpr, TP: tl.constexpr):
    """Store (R, R) as (P, h T, K)."""
    K = H * (T - 1) + 1
    k, used = _rank(r, H, T, TP)
    h, t = r // TP, r % TP
    inside = ((h < H) & (t < T))[:, None] & used[None, :]
    tl.store(gathered + p * H * T * K + ((h * T + t) * K)[:, None] + k[None, :], x, mask=inside)


@triton.jit
def first_pass(
    Q0, n0, Z0, S_k1, P_k1, S_v1, k0, v0, G, q1, Mq, reads, gathered, s1, N,
    H: tl.constexpr, T: tl.constexpr, D: tl.constexpr, HP: tl.constexpr, TP: tl.constexpr,
    DP: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """See `image_passes.first_pass`; reads and gathered as the C++ kernel leaves them."""
    p = tl.program_id(0).to(tl.int64)
    r, c = tl.arange(0, HP * TP), tl.arange(0, HP * DP)
    k0_, q1_ = _own(k0, p, r, c, H, T, D, TP, DP), _own(q1, p, r, c, H, T, D, TP, DP)
    v0_, G_, Mq_ = (
        _differences(v0, p, r, c, H, T, D, TP, DP),
        _form(G, p, r, H, T, TP),
        _mixed_rows(Mq, p, r, H, T, TP),
    )
    top = tl.full((HP * TP,), -float("inf"), tl.float32)
    total = tl.zeros((HP * TP,), tl.float32)
    read, gather = (
        tl.zeros((HP * TP, HP * DP), tl.float32),
        tl.zeros((HP * TP, HP * TP), tl.float32),
    )
    for start in range(0, N, BLOCK):
        n = start + tl.arange(0, BLOCK)
        a = _weights_of_first(
            k0_, Q0, r, c, n, N, H, T, D, HP, TP, DP, BLOCK, PRECISION
        )  # fmt: skip
        U = tl.dot(v0_, _image(Z0, c, n, N, H, D, DP), input_precision=PRECISION)
        U += tl.dot(G_, a, input_precision=PRECISION)
        scale = 1 / tl.sqrt(tl.load(n0 + n, mask=n < N, other=1.0) + tl.sum(a * U, 0))
        tl.store(s1 + p * N + n, scale, mask=n < N)
        w = _scores(q1_, Mq_, a, scale, S_k1, P_k1, c, n, N, H, D, DP, PRECISION)
        w, top, total, shrunk = _running(tl.where((n < N)[None, :], w, -float("inf")), top, total)
        w = w * scale[None, :]
        values = tl.trans(_image(S_v1, c, n, N, H, D, DP))
        read = read * shrunk[:, None] + tl.dot(w, values, input_precision=PRECISION)
        gather = gather * shrunk[:, None] + tl.dot(w, tl.trans(a), input_precision=PRECISION)
    _store_reads(reads, read / total[:, None], p, r, c, H, T, D, TP, DP)
    _store_gathered(gathered, gather / total[:, None], p, r, H, T, TP)


@triton.jit
def second_pass(
    Q0, S_q1, P_q1, n1, Z0, Z1, z_c, S_kf, P_kf, S_vf, k0, v0, k1, v1, Mk, G00, G10, G11, qf, M0,
    M1, s1, reads, gathered, later, s2, N, eps,
    H: tl.constexpr, T: tl.constexpr, D: tl.constexpr, HP: tl.constexpr, TP: tl.constexpr,
    DP: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """See `image_passes.second_pass`; reads, gathered and later as the C++ kernel leaves them."""
    p = tl.program_id(0).to(tl.int64)
    r, c = tl.arange(0, HP * TP), tl.arange(0, HP * DP)
    k0_, k1_, qf_ = (
        _own(k0, p, r, c, H, T, D, TP, DP),
        _own(k1, p, r, c, H, T, D, TP, DP),
        _own(qf, p, r, c, H, T, D, TP, DP),
    )
    v0_, v1_ = (
        _differences(v0, p, r, c, H, T, D, TP, DP),
        _differences(v1, p, r, c, H, T, D, TP, DP),
    )
    G00_, G10_, G11_ = (
        _form(G00, p, r, H, T, TP),
        _form(G10, p, r, H, T, TP),
        _form(G11, p, r, H, T, TP),
    )
    Mk_, M0_, M1_ = (
        _mixed_rows(Mk, p, r, H, T, TP),
        _mixed_rows(M0, p, r, H, T, TP),
        _mixed_rows(M1, p, r, H, T, TP),
    )
    top = tl.full((HP * TP,), -float("inf"), tl.float32)
    total = tl.zeros((HP * TP,), tl.float32)
    read, gather = (
        tl.zeros((HP * TP, HP * DP), tl.float32),
        tl.zeros((HP * TP, HP * TP), tl.float32),
    )
    gather1 = tl.zeros((HP * TP, HP * TP), tl.float32)
    for start in range(0, N, BLOCK):
        n = start + tl.arange(0, BLOCK)
        a = _weights_of_first(
            k0_, Q0, r, c, n, N, H, T, D, HP, TP, DP, BLOCK, PRECISION
        )  # fmt: skip
        scale = tl.load(s1 + p * N + n, mask=n < N, other=0.0)
        w = _scores(k1_, Mk_, a, scale, S_q1, P_q1, c, n, N, H, D, DP, PRECISION)
        a1 = _weights(w, r, H, T, HP, TP, BLOCK)
        U = tl.dot(v0_, _image(Z0, c, n, N, H, D, DP), input_precision=PRECISION)
        U += tl.dot(G00_, a, input_precision=PRECISION)
        before = tl.load(n1 + n, mask=n < N, other=1.0) + tl.sum(a * U, 0)
        V = tl.dot(v1_, _image(Z1, c, n, N, H, D, DP), input_precision=PRECISION)
        V += tl.where((r == T - 1)[:, None], tl.load(z_c + n, mask=n < N, other=0.0)[None, :], 0.0)
        V = (V + tl.dot(G10_, a, input_precision=PRECISION)) * scale[None, :]
        V += tl.dot(G11_, a1, input_precision=PRECISION)
        later_scale = 1 / tl.sqrt(scale * scale * before + tl.sum(a1 * V, 0) + eps)
        tl.store(s2 + p * N + n, later_scale, mask=n < N)
        w = tl.dot(qf_, _image(S_kf, c, n, N, H, D, DP), input_precision=PRECISION)
        w = (w + tl.dot(M0_, a, input_precision=PRECISION)) * scale[None, :]
        w = (w + tl.dot(M1_, a1, input_precision=PRECISION)) * later_scale[None, :]
        w += tl.dot(qf_, _image(P_kf, c, n, N, H, D, DP), input_precision=PRECISION)
        w, top, total, shrunk = _running(tl.where((n < N)[None, :], w, -float("inf")), top, total)
        w = w * later_scale[None, :]
        gather1 = gather1 * shrunk[:, None] + tl.dot(w, tl.trans(a1), input_precision=PRECISION)
        w = w * scale[None, :]
        values = tl.trans(_image(S_vf, c, n, N, H, D, DP))
        read = read * shrunk[:, None] + tl.dot(w, values, input_precision=PRECISION)
        gather = gather * shrunk[:, None] + tl.dot(w, tl.trans(a), input_precision=PRECISION)
    _store_reads(reads, read / total[:, None], p, r, c, H, T, D, TP, DP)
    _store_gathered(gathered, gather / total[:, None], p, r, H, T, TP)
    _store_gathered(later, gather1 / total[:, None], p, r, H, T, TP)


@triton.jit
def _gelu(x):
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def draw(
    Q0, S_q1, P_q1, S_up, P_up, skip, k0, k1, Mk, M, s1, s2, norm_weight, norm_bias, weight, bias,
    hyper, position, out, N, P_step, columns, width, area, eps,
    F: tl.constexpr, G: tl.constexpr, ANSWERS: tl.constexpr, FP: tl.constexpr, GP: tl.constexpr,
    SKIP: tl.constexpr, BIAS: tl.constexpr,
    H: tl.constexpr, T: tl.constexpr, D: tl.constexpr, HP: tl.constexpr, TP: tl.constexpr,
    DP: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Draw the answers to a prompt at some image tokens.

    M (P, 2 K, 4 F): both updates as the first convolution sees them. P_up (4 F, n) or, if P_step is
    0, (4 F, 1). position (P, ANSWERS): the place of each answer in `out`, negative if it is not
    wanted. out (K, area): logits, `width` in a row.
    """
    p = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    r, c = tl.arange(0, HP * TP), tl.arange(0, HP * DP)
    f, g = tl.arange(0, FP), tl.arange(0, GP)
    K = H * (T - 1) + 1
    rank, used = _rank(r, H, T, TP)
    scale = tl.load(s1 + p * N + n, mask=n < N, other=0.0)
    later = tl.load(s2 + p * N + n, mask=n < N, other=0.0)
    k0_, k1_ = _own(k0, p, r, c, H, T, D, TP, DP), _own(k1, p, r, c, H, T, D, TP, DP)
    a = _weights_of_first(k0_, Q0, r, c, n, N, H, T, D, HP, TP, DP, BLOCK, PRECISION)
    Mk_ = _mixed_rows(Mk, p, r, H, T, TP)
    w = _scores(k1_, Mk_, a, scale, S_q1, P_q1, c, n, N, H, D, DP, PRECISION)
    a1 = _weights(w, r, H, T, HP, TP, BLOCK) * later[None, :]
    a = a * (scale * later)[None, :]
    norm_w = tl.load(norm_weight + f, mask=f < F, other=0.0)
    norm_b = tl.load(norm_bias + f, mask=f < F, other=0.0)
    for sub in tl.static_range(4):
        up = M + p * 2 * K * 4 * F + sub * F + f[:, None] + (rank * 4 * F)[None, :]
        both = (f < F)[:, None] & used[None, :]
        u = tl.dot(tl.load(up, mask=both, other=0.0), a, input_precision=PRECISION)
        u += tl.dot(tl.load(up + K * 4 * F, mask=both, other=0.0), a1, input_precision=PRECISION)
        inside = (f < F)[:, None] & (n < N)[None, :]
        row = (sub * F + f)[:, None]
        u += tl.load(S_up + row * N + n[None, :], mask=inside, other=0.0) * (scale * later)[None, :]
        at = row * N + n[None, :] if P_step else row + 0 * n[None, :]
        u += tl.load(P_up + at, mask=inside, other=0.0)
        u = u / tl.sqrt(tl.sum(u * u, 0) / F + eps)[None, :]
        u = _gelu(u * norm_w[:, None] + norm_b[:, None])
        for cell in tl.static_range(4):
            at = f[None, :] * G * 4 + g[:, None] * 4 + cell
            W = tl.load(weight + at, mask=(g < G)[:, None] & (f < F)[None, :], other=0.0)
            x = tl.dot(W, u, input_precision=PRECISION)
            if BIAS:
                x += tl.load(bias + g, mask=g < G, other=0.0)[:, None]
            if SKIP:
                at = ((sub * 4 + cell) * G + g)[:, None] * N + n[None, :]
                x += tl.load(skip + at, mask=(g < G)[:, None] & (n < N)[None, :], other=0.0)
            x = _gelu(x)
            y = (n // columns) * 4 + (sub // 2) * 2 + cell // 2
            pixel = y * width + (n % columns) * 4 + (sub % 2) * 2 + cell % 2
            for m in tl.static_range(ANSWERS):
                place = tl.load(position + p * ANSWERS + m)
                weights = tl.load(hyper + (p * ANSWERS + m) * G + g, mask=g < G, other=0.0)
                logit = tl.sum(x * weights[:, None], 0)
                tl.store(out + place * area + pixel, logit, mask=(n < N) & (place >= 0))
