// The Python module of the kernels: functions that take numbers and arrays.
//
// It is built without any library, and optional: without it the same algebra runs as torch
// operations. GCC compiles the kernels for AVX-512, AVX2 and plain vectors, of which the fastest that
// the CPU supports is used; other compilers compile them for their target only.

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdlib.h>
#include <string.h>

namespace {

const long TILE = 64;   // image tokens
const long CHUNK = 64;  // pixels of a column that are measured together

// One allocation, handed out in pieces.
struct Memory {
    char *start;
    float *next;
    explicit Memory(long floats) {
        start = (char *)malloc(4 * floats + 64);
        next = (float *)(((size_t)start + 63) / 64 * 64);
    }
    ~Memory() { free(start); }
    float *take(long floats) { return (next += floats) - floats; }
};

#include "arguments.hpp"
#include "rle.hpp"
#include "regions.hpp"

}  // namespace

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SEVERAL 1
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx2,fma")
namespace avx512 {
#define LANES 16
#define ROWS 8
#include "kernels.hpp"
#undef LANES
#undef ROWS
}  // namespace avx512
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#define LANES 8
#define ROWS 6
#include "kernels.hpp"
#undef LANES
#undef ROWS
}  // namespace avx2
#pragma GCC pop_options
#endif

namespace any {
#define LANES 4
#define ROWS 6
#include "kernels.hpp"
}  // namespace any

namespace {

struct Kernels {
    const char *instructions;
    bool (*first_pass)(const Shape &, long, const FirstPass &);
    bool (*second_pass)(const Shape &, long, const SecondPass &);
    bool (*draw)(const Shape &, long, const Drawing &);
    bool (*look)(const Measuring &, const float *, long *, Edges &);
};

// The kernels that this CPU supports, the fastest first.
const Kernels *available() {
    static Kernels all[4] = {};  // terminated by a null name
    int count = 0;
#ifdef SEVERAL
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        all[count++] = {"AVX-512", avx512::first_pass, avx512::second_pass, avx512::draw,
                        avx512::look};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        all[count++] = {"AVX2", avx2::first_pass, avx2::second_pass, avx2::draw,
                        avx2::look};
#endif
    all[count] = {"plain", any::first_pass, any::second_pass, any::draw,
                        any::look};
    return all;
}

const Kernels *kernels = available();

// The arrays of a call, in order; checks the size of each.
class Arrays {
  public:
    explicit Arrays(PyObject *sequence) : sequence_(sequence) {}
    ~Arrays() {
        for (int i = 0; i < held_; i++) PyBuffer_Release(&buffers_[i]);
    }
    const float *floats(long count) { return (const float *)next(count * sizeof(float), 0); }
    const int *integers(long count) { return (const int *)next(count * sizeof(int), 0); }
    const long *numbers(long count) { return (const long *)next(count * sizeof(long), 0); }
    long *counts(long count) { return (long *)next(count * sizeof(long), PyBUF_WRITABLE); }
    float *results(long count) { return (float *)next(count * sizeof(float), PyBUF_WRITABLE); }
    bool ok() const { return !PyErr_Occurred(); }

  private:
    void *next(Py_ssize_t bytes, int flags) {
        if (!ok()) return nullptr;
        PyObject *item = PySequence_GetItem(sequence_, held_);
        if (item == nullptr) return nullptr;
        const int failed = PyObject_GetBuffer(item, &buffers_[held_], flags);
        Py_DECREF(item);
        if (failed) return nullptr;
        const Py_buffer &buffer = buffers_[held_++];
        if (buffer.len == bytes) return buffer.buf;
        PyErr_Format(PyExc_ValueError, "array %d has %zd bytes, not %zd", held_ - 1, buffer.len, bytes);
        return nullptr;
    }
    PyObject *sequence_;
    Py_buffer buffers_[32];
    int held_ = 0;
};

// The sizes that the decoder's functions begin with: h, T, d, tokens, prompts.
struct Call {
    Shape s;
    long prompts, n, small, image;
    bool read(long h, long T, long d, long tokens, long count) {
        s = {h, T, d, h * (T - 1) + 1, tokens, (tokens + TILE - 1) / TILE};
        prompts = count, n = h * T, small = prompts * n * d, image = s.tiles * h * d * TILE;
        if (h > 0 && T > 0 && d > 0 && tokens > 0 && prompts >= 0) return true;
        PyErr_SetString(PyExc_ValueError, "sizes must be positive");
        return false;
    }
};

template <class Run>
PyObject *answered(const Arrays &arrays, Run run) {
    if (!arrays.ok()) return nullptr;
    bool done;
    Py_BEGIN_ALLOW_THREADS;
    done = run();
    Py_END_ALLOW_THREADS;
    if (!done) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

PyObject *first_pass(PyObject *, PyObject *args) {
    long h, T, d, tokens, prompts;
    PyObject *sequence;
    Call c;
    if (!PyArg_ParseTuple(args, "(lllll)O", &h, &T, &d, &tokens, &prompts, &sequence)) return nullptr;
    if (!c.read(h, T, d, tokens, prompts)) return nullptr;
    const long K = c.s.K, cells = c.s.tiles * TILE;
    Arrays of(sequence);
    FirstPass p;
    p.Q0 = of.floats(c.image), p.n0 = of.floats(cells), p.Z0 = of.floats(c.image);
    p.S_k1 = of.floats(c.image), p.P_k1 = of.floats(c.image);
    p.S_v1 = of.floats(cells * h * c.s.deep());
    p.k0 = of.floats(c.small), p.v0 = of.floats(c.small), p.G = of.floats(prompts * K * K);
    p.q1 = of.floats(c.small), p.Mq = of.floats(prompts * c.n * K);
    p.reads = of.results(c.small), p.gathered = of.results(prompts * c.n * K);
    p.s1 = of.results(prompts * cells);
    return answered(of, [&] { return kernels->first_pass(c.s, prompts, p); });
}

PyObject *second_pass(PyObject *, PyObject *args) {
    long h, T, d, tokens, prompts;
    PyObject *sequence;
    Call c;
    SecondPass p;
    if (!PyArg_ParseTuple(args, "(lllll)fO", &h, &T, &d, &tokens, &prompts, &p.eps, &sequence))
        return nullptr;
    if (!c.read(h, T, d, tokens, prompts)) return nullptr;
    const long K = c.s.K, cells = c.s.tiles * TILE, KK = prompts * K * K, rows = prompts * c.n * K;
    Arrays of(sequence);
    p.Q0 = of.floats(c.image), p.S_q1 = of.floats(c.image), p.P_q1 = of.floats(c.image);
    p.n1 = of.floats(cells), p.Zt0 = of.floats(c.image), p.Zt1 = of.floats(c.image);
    p.z_c = of.floats(cells), p.S_kf = of.floats(c.image), p.P_kf = of.floats(c.image);
    p.S_vf = of.floats(cells * h * c.s.deep());
    p.k0 = of.floats(c.small), p.v0 = of.floats(c.small);
    p.k1 = of.floats(c.small), p.v1 = of.floats(c.small), p.Mk = of.floats(rows);
    p.G00 = of.floats(KK), p.G10 = of.floats(KK), p.G11 = of.floats(KK);
    p.qf = of.floats(c.small), p.M0 = of.floats(rows), p.M1 = of.floats(rows);
    p.s1 = of.floats(prompts * cells);
    p.reads = of.results(c.small);
    p.gathered0 = of.results(rows), p.gathered1 = of.results(rows);
    p.s2 = of.results(prompts * cells);
    return answered(of, [&] { return kernels->second_pass(c.s, prompts, p); });
}

PyObject *refused() {
    PyErr_SetString(PyExc_ValueError, "the masks of prompts must be in order and within the output");
    return nullptr;
}

PyObject *draw(PyObject *, PyObject *args) {
    long h, T, d, tokens, prompts, masks, places;
    int flat, skips;
    PyObject *sequence;
    Call c;
    Drawing p;
    if (!PyArg_ParseTuple(args, "(lllll)(llllllll)(pp)fO", &h, &T, &d, &tokens, &prompts, &p.F, &p.G,
                          &p.rows, &p.columns, &p.grid_rows, &p.grid_columns, &masks, &places, &flat,
                          &skips, &p.eps, &sequence))
        return nullptr;
    if (!c.read(h, T, d, tokens, prompts)) return nullptr;
    const long K = c.s.K, cells = c.s.tiles * TILE, F = p.F, G = p.G;
    if (F < 1 || G < 1 || p.rows * p.columns != tokens || p.rows > p.grid_rows ||
        p.columns > p.grid_columns) {
        PyErr_SetString(PyExc_ValueError, "the drawn cells do not fit into the grid");
        return nullptr;
    }
    p.flat = flat != 0;
    Arrays of(sequence);
    p.Q0 = of.floats(c.image), p.S_q1 = of.floats(c.image), p.P_q1 = of.floats(c.image);
    p.S_up = of.floats(cells * 4 * F), p.P_up = of.floats(p.flat ? 4 * F : cells * 4 * F);
    p.skip = of.floats(skips ? cells * 16 * G : 0);
    if (!skips) p.skip = nullptr;
    p.k0 = of.floats(c.small), p.k1 = of.floats(c.small);
    p.Mk = of.floats(prompts * c.n * K), p.M = of.floats(prompts * 2 * K * 4 * F);
    p.s1 = of.floats(prompts * cells), p.s2 = of.floats(prompts * cells);
    p.norm_weight = of.floats(F), p.norm_bias = of.floats(F);
    p.weight = of.floats(F * 4 * G), p.bias = of.floats(4 * G);
    p.start = of.numbers(prompts + 1), p.position = of.numbers(masks);
    p.hyper = of.floats(masks * G);
    p.logits = of.results(places * 16 * p.grid_rows * p.grid_columns);
    if (!of.ok()) return nullptr;
    for (long i = 0, last = 0; i <= prompts; last = p.start[i++])
        if (p.start[i] < last || p.start[i] > masks || (i == 0 && p.start[0] != 0)) return refused();
    for (long m = 0; m < masks; m++)
        if (p.position[m] < 0 || p.position[m] >= places) return refused();
    return answered(of, [&] { return kernels->draw(c.s, prompts, p); });
}

// Move the edges of N masks into bytes objects.
PyObject *as_bytes(Edges *edges, long masks) {
    PyObject *found = PyList_New(masks);
    for (long i = 0; i < masks; i++) {
        const Py_ssize_t size = edges[i].count * sizeof(long);
        PyObject *item = found ? PyBytes_FromStringAndSize((const char *)edges[i].at, size) : nullptr;
        free(edges[i].at);
        if (item != nullptr) PyList_SetItem(found, i, item);
    }
    if (PyErr_Occurred()) Py_CLEAR(found);
    return found;
}

PyObject *look(PyObject *, PyObject *args) {
    long masks;
    int convex;
    PyObject *sequence;
    Measuring p;
    if (!PyArg_ParseTuple(args, "l(lll)(lll)(lll)(fff)pO", &masks, &p.rows.pixels, &p.rows.cells,
                          &p.rows.count, &p.columns.pixels, &p.columns.cells, &p.columns.count, &p.x,
                          &p.y, &p.height, &p.outer, &p.threshold, &p.inner, &convex, &sequence))
        return nullptr;
    p.convex = convex != 0;
    Arrays of(sequence);
    const long size = p.rows.cells * p.columns.cells;
    const float *logits = of.floats(masks * size);
    Axis *axes[] = {&p.rows, &p.columns};
    for (Axis *axis : axes) {
        axis->first = of.numbers(axis->pixels);
        axis->weights = of.floats(axis->pixels * axis->count);
        if (!of.ok()) return nullptr;
        for (long i = 0; i < axis->pixels; i++)
            if (axis->first[i] < 0 || axis->first[i] + axis->count > axis->cells) {
                PyErr_SetString(PyExc_ValueError, "an axis refers to cells outside the logits");
                return nullptr;
            }
    }
    long *counts = of.counts(masks * 7);
    if (!of.ok()) return nullptr;
    Edges *edges = (Edges *)calloc(masks + 1, sizeof(Edges));
    bool done = edges != nullptr;
    Py_BEGIN_ALLOW_THREADS;
    for (long i = 0; i < masks && done; i++)
        done = kernels->look(p, logits + i * size, counts + i * 7, edges[i]);
    Py_END_ALLOW_THREADS;
    PyObject *found = edges == nullptr ? nullptr : as_bytes(edges, masks);
    free(edges);
    if (done) return found;
    Py_XDECREF(found);
    return PyErr_NoMemory();
}

// COCO's text of masks, given the edges of all and how many each has.
PyObject *strings(PyObject *, PyObject *args) {
    long masks, all, pixels;
    PyObject *sequence;
    if (!PyArg_ParseTuple(args, "lllO", &masks, &all, &pixels, &sequence)) return nullptr;
    Arrays of(sequence);
    const long *edges = of.numbers(all), *counts = of.numbers(masks);
    if (!of.ok()) return nullptr;
    long sum = 0, start = 0;
    bool wrong = false;
    for (long i = 0; i < masks && !wrong; i++) {
        wrong = counts[i] < 0 || counts[i] > all - sum;
        for (long k = 0; k < counts[i] && !wrong; k++)
            wrong = edges[sum + k] < (k ? edges[sum + k - 1] : 0) || edges[sum + k] > pixels;
        sum += counts[i];
    }
    if (wrong || sum != all) {
        PyErr_SetString(PyExc_ValueError, "edges must ascend within the image, and add up");
        return nullptr;
    }
    PyObject *found = PyList_New(masks);
    Text text;
    Edges joined;
    for (long i = 0; i < masks && found != nullptr; start += counts[i++]) {
        if (!coded(joined, edges + start, counts[i], pixels, text)) {
            Py_CLEAR(found);
            PyErr_NoMemory();
            break;
        }
        PyObject *item = PyUnicode_FromStringAndSize(text.at, text.count);
        if (item == nullptr) Py_CLEAR(found);
        else PyList_SetItem(found, i, item);
    }
    free(joined.at);
    return found;
}

// The logits of regions of a tree, given where each is.
PyObject *regions(PyObject *, PyObject *args) {
    long count;
    PyObject *sequence;
    Regions p;
    if (!PyArg_ParseTuple(args, "l(ll)lffO", &count, &p.height, &p.width, &p.reach, &p.slope, &p.far,
                          &sequence))
        return nullptr;
    Arrays of(sequence);
    p.place = of.integers(p.height * p.width);
    const Region *each = (const Region *)of.numbers(count * 6);
    const float *certain = of.floats(count);
    float *logits = of.results(count * p.height * p.width);
    if (!of.ok()) return nullptr;
    for (long i = 0; i < count; i++) {
        const Region &r = each[i];
        if (r.x0 < 0 || r.y0 < 0 || r.x0 >= r.x1 || r.y0 >= r.y1 || r.x1 > p.width ||
            r.y1 > p.height) {
            PyErr_SetString(PyExc_ValueError, "a region must lie within the canvas");
            return nullptr;
        }
    }
    return answered(of, [&] {
        for (long i = 0; i < count; i++)
            if (!draw_region(p, each[i], certain[i], logits + i * p.height * p.width)) return false;
        return true;
    });
}

PyObject *take(PyObject *, PyObject *args) {
    const char *name;
    if (!PyArg_ParseTuple(args, "s", &name)) return nullptr;
    for (const Kernels *each = available(); each->instructions != nullptr; each++)
        if (strcmp(each->instructions, name) == 0) {
            kernels = each;
            Py_RETURN_NONE;
        }
    return PyErr_Format(PyExc_ValueError, "this CPU has no %s", name);
}

PyMethodDef methods[] = {
    {"take", take, METH_VARARGS, nullptr},
    {"first_pass", first_pass, METH_VARARGS, nullptr},
    {"second_pass", second_pass, METH_VARARGS, nullptr},
    {"draw", draw, METH_VARARGS, nullptr},
    {"look", look, METH_VARARGS, nullptr},
    {"strings", strings, METH_VARARGS, nullptr},
    {"regions", regions, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", nullptr, 0, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__kernels(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module == nullptr) return nullptr;
    PyObject *names = PyList_New(0);
    for (const Kernels *each = kernels; each->instructions != nullptr; each++) {
        PyObject *name = PyUnicode_FromString(each->instructions);
        PyList_Append(names, name);
        Py_DECREF(name);
    }
    PyModule_AddIntConstant(module, "TILE", TILE);
    PyModule_AddIntConstant(module, "INTERFACE", 3);  // loader.py: raised when a function's arguments change
    PyObject *tuple = PyList_AsTuple(names);
    PyModule_AddObjectRef(module, "INSTRUCTIONS", tuple);
    Py_DECREF(tuple);
    Py_DECREF(names);
    return module;
}
