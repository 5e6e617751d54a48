// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Convolutions of images. A stack of images (images, height, width, C) lies in memory with a margin of zeros around each image: its
// pitch is (H + 2 margin) x (W + 2 margin) pixels. C, D: channels of a pixel, multiples of LANES.
#include <algorithm>
#include "gemm.h"
#include "pool.h"

using namespace occle;

namespace {

constexpr int64_t PIXELS = 48;  // of a part
constexpr int64_t WINDOW = 6, PLACES = WINDOW * WINDOW;  // pixels of a side that Winograd's way reads for a tile of the result
constexpr int64_t TILES = 24;                            // of a part
// Floats from one of a window's places to the next, of C channels: no multiple of a page, whose lines would drive each other out.
constexpr int64_t place(int64_t C) { return TILES * C + 16; }

template <class Float>
struct Images {
    Float* data;
    int64_t H, W, C, margin;
    int64_t line() const { return (W + 2 * margin) * C; }
    // Of pixel (y, x) of an image; -margin is the first.
    Float* at(int64_t image, int64_t y, int64_t x) const {
        return data + (image * (H + 2 * margin) + y + margin) * line() + (x + margin) * C;
    }
};

// Winograd's F(4 x 4, 3 x 3) and F(3 x 3, 4 x 4) at the points 0, +-INNER, +-OUTER and infinity, with INNER OUTER = 1: rounding
// errors are half of those at 1 and 2.
constexpr float INNER = 2.f / 3, OUTER = 3.f / 2, INNER2 = INNER * INNER, OUTER2 = OUTER * OUTER;

// B^T d of six vectors.
ALWAYS_INLINE void window_of(const Vector (&d)[WINDOW], Vector (&to)[WINDOW]) {
    const Vector p = d[4] - OUTER2 * d[2], q = INNER * d[3] - OUTER * d[1];
    const Vector r = d[4] - INNER2 * d[2], s = OUTER * d[3] - INNER * d[1];
    to[0] = d[0] - (INNER2 + OUTER2) * d[2] + d[4], to[5] = d[1] - (INNER2 + OUTER2) * d[3] + d[5];
    to[1] = p + q, to[2] = p - q, to[3] = r + s, to[4] = r - s;
}

// B^T d B over the channels of a 6 x 6 window of lines: `to` gets 36 vectors, `step` floats apart.
ALWAYS_INLINE void window_of(const float* x, int64_t line, int64_t C, float* to, int64_t step) {
    Vector half[WINDOW][WINDOW];
    UNROLL for (int i = 0; i < WINDOW; i++) {
        Vector column[WINDOW];
        UNROLL for (int k = 0; k < WINDOW; k++) column[k] = load(x + k * line + i * C);
        window_of(column, half[i]);
    }
    UNROLL for (int k = 0; k < WINDOW; k++) {
        Vector row[WINDOW], whole[WINDOW];
        UNROLL for (int i = 0; i < WINDOW; i++) row[i] = half[i][k];
        window_of(row, whole);
        UNROLL for (int i = 0; i < WINDOW; i++) store(to + (WINDOW * k + i) * step, whole[i]);
    }
}

// A^T m of six vectors.
template <int TILE>
ALWAYS_INLINE void sums_of(const Vector (&m)[WINDOW], Vector (&sum)[TILE]) {
    const Vector p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
    sum[0] = m[0] + p + r, sum[1] = INNER * q + OUTER * s, sum[2] = INNER2 * p + OUTER2 * r;
    if (TILE == 4) sum[TILE - 1] = INNER2 * INNER * q + OUTER2 * OUTER * s;
    sum[TILE - 1] += m[5];
}

// A^T m A: the sums of a tile from 36 vectors.
template <int TILE>
ALWAYS_INLINE void sums_of(const float* m, int64_t step, Vector (&sum)[TILE][TILE]) {
    Vector half[WINDOW][TILE];
    UNROLL for (int i = 0; i < WINDOW; i++) {
        Vector column[WINDOW];
        UNROLL for (int k = 0; k < WINDOW; k++) column[k] = load(m + (WINDOW * k + i) * step);
        sums_of<TILE>(column, half[i]);
    }
    UNROLL for (int k = 0; k < TILE; k++) {
        Vector row[WINDOW];
        UNROLL for (int i = 0; i < WINDOW; i++) row[i] = half[i][k];
        sums_of<TILE>(row, sum[k]);
    }
}

// A part of convolve_winograd, with kernels of 7 - TILE pixels; windows: room for a worker.
template <int TILE>
void convolve_tiles(int64_t first, int64_t count, const Images<const float>& from, int64_t depth, const float* w, const float* bias,
                    const Images<const float>* more, bool relu, const Images<float>& to, float* windows) {
    const int64_t H = from.H, W = from.W, C = from.C, D = to.C, wide = parts_of(W, TILE), high = parts_of(H, TILE);
    float* products = windows + PLACES * place(C);
    float* edge = products + PLACES * place(D);
    const auto tile = [&](int64_t i, int64_t& image, int64_t& y, int64_t& column) {
        image = (first + i) / (high * wide), y = TILE * ((first + i) / wide % high), column = TILE * ((first + i) % wide);
    };
    int64_t image, y, column;
    for (int64_t i = 0; i < count; i++) {
        tile(i, image, y, column);
        const float* window = from.at(image, y - from.margin, column - from.margin);
        int64_t line = from.line();
        const int64_t lines = std::min(WINDOW, H + 2 * from.margin - y), pixels = std::min(WINDOW, W + 2 * from.margin - column);
        if (lines < WINDOW || pixels < WINDOW) {  // it ends outside of the image's margin
            std::fill_n(edge, PLACES * C, 0.f);
            for (int64_t k = 0; k < lines; k++) std::copy_n(window + k * line, pixels * C, edge + k * WINDOW * C);
            window = edge, line = WINDOW * C;
        }
        for (int64_t c = 0; c < C; c += LANES) window_of(window + c, line, C, windows + i * C + c, place(C));
    }
    for (int64_t k = 0; k < PLACES; k++)
        multiply<false>(count, depth, w + k * depth * D, D, [&](int64_t i) { return windows + k * place(C) + i * C; },
                        [&](int64_t i) { return products + k * place(D) + i * D; });
    for (int64_t i = 0; i < count; i++) {
        tile(i, image, y, column);
        const int64_t lines = std::min<int64_t>(TILE, H - y), pixels = std::min<int64_t>(TILE, W - column);
        for (int64_t d = 0; d < D; d += LANES) {
            Vector sum[TILE][TILE];
            sums_of<TILE>(products + i * D + d, place(D), sum);
            const Vector b = load(bias + d);
            for (int64_t k = 0; k < lines; k++) {
                for (int64_t j = 0; j < pixels; j++) {
                    Vector value = sum[k][j] + b;
                    if (more) value += load(more->at(image, y + k, column + j) + d);
                    store(to.at(image, y + k, column + j) + d, relu ? maximum(value, Vector{}) : value);
                }
            }
        }
    }
}

}  // namespace

extern "C" {

int64_t winograd_room(int64_t channels) { return PLACES * ((TILES + 1) * channels + 2 * 16); }

// Bytes (images, H, W, 3) through a table (256, 3) into a stack of half the height and width, rounded up, with margins of 2: the
// first 12 of a pixel's C channels are those of 2 x 2 pixels, line by line.
void look_up_pixels(Pool* pool, const uint8_t* bytes, int64_t images, int64_t H, int64_t W, const float* table, int64_t C,
                    float* out) {
    const Images<float> to{out, (H + 1) / 2, (W + 1) / 2, C, 2};
    each(pool, images * H, [&](int64_t line, int64_t) {
        const int64_t y = line % H;
        float* pixel = to.at(line / H, y / 2, 0) + y % 2 * 6;
        const uint8_t* from = bytes + line * W * 3;
        for (int64_t x = 0; x < W; x++, from += 3)
            for (int64_t c = 0; c < 3; c++) pixel[x / 2 * C + x % 2 * 3 + c] = table[3 * from[c] + c];
    });
}

// out = act(bias + more + x * w): kernel `size` x `size`, padding size / 2, one less behind for even sizes; w (size, size * C, D).
// `more`, null for none, has MH x MW pixels and a margin of 1; every pixel of the result takes the one at its place in it.
void convolve_images(Pool* pool, const float* x, int64_t images, int64_t H, int64_t W, int64_t C, int64_t margin, const float* w,
                     int64_t size, int64_t stride, int64_t D, const float* bias, const float* more, int64_t MH, int64_t MW,
                     int64_t relu, float* out, int64_t out_margin) {
    const int64_t OH = (H - 1) / stride + 1, OW = (W - 1) / stride + 1, pixels = images * OH * OW, pad = size / 2;
    const Images<const float> from{x, H, W, C, margin}, other{more, MH, MW, D, 1};
    const Images<float> to{out, OH, OW, D, out_margin};
    each(pool, parts_of(pixels, PIXELS), [&](int64_t part, int64_t) {
        const int64_t first = part * PIXELS, count = std::min(PIXELS, pixels - first);
        const float* source[PIXELS];
        float* target[PIXELS];
        int64_t image = first / (OH * OW), y = first / OW % OH, column = first % OW;
        for (int64_t i = 0; i < count; i++, column++) {
            if (column == OW) column = 0, y++;
            if (y == OH) y = 0, image++;
            source[i] = from.at(image, y * stride - pad, column * stride - pad);
            target[i] = to.at(image, y, column);
            const float* add = more ? other.at(image, y * MH / OH, column * MW / OW) : nullptr;
            for (int64_t d = 0; d < D; d += LANES) store(target[i] + d, add ? load(bias + d) + load(add + d) : load(bias + d));
        }
        multiply(count, size * C, w, D, [&](int64_t i) { return source[i]; }, [&](int64_t i) { return target[i]; }, size, from.line());
        if (relu)
            for (int64_t i = 0; i < count; i++)
                for (int64_t d = 0; d < D; d++) target[i][d] = std::max(target[i][d], 0.f);
    });
}

// The same for kernels of 3 x 3 or 4 x 4 and stride 1 by Winograd's minimal filtering: w (36, depth, D) are transformed kernels, of
// the first `depth` channels of C. `more` is as large as `out` and has margins of 1, x of size / 2. work: winograd_room(C + D) floats
// per thread.
void convolve_winograd(Pool* pool, const float* x, int64_t images, int64_t H, int64_t W, int64_t C, const float* w, int64_t size,
                       int64_t depth, int64_t D, const float* bias, const float* more, int64_t relu, float* out, int64_t out_margin,
                       float* work) {
    const int64_t tile = WINDOW + 1 - size, tiles = images * parts_of(H, tile) * parts_of(W, tile);
    const Images<const float> from{x, H, W, C, size / 2}, other{more, H, W, D, 1};
    const Images<float> to{out, H, W, D, out_margin};
    const auto convolve = size == 3 ? convolve_tiles<4> : convolve_tiles<3>;
    each(pool, parts_of(tiles, TILES), [&](int64_t part, int64_t worker) {
        const int64_t first = part * TILES;
        convolve(first, std::min(TILES, tiles - first), from, depth, w, bias, more ? &other : nullptr, relu, to,
                 work + worker * winograd_room(C + D));
    });
}

// The maximum over 3 x 3 pixels, stride 2, of a stack that is not negative anywhere; margins of 1.
void largest_of_images(Pool* pool, const float* x, int64_t images, int64_t H, int64_t W, int64_t C, float* out) {
    const int64_t OH = (H - 1) / 2 + 1, OW = (W - 1) / 2 + 1;
    const Images<const float> from{x, H, W, C, 1};
    const Images<float> to{out, OH, OW, C, 1};
    each(pool, images * OH, [&](int64_t line, int64_t) {
        for (int64_t column = 0; column < OW; column++) {
            const float* window = from.at(line / OH, 2 * (line % OH) - 1, 2 * column - 1);
            for (int64_t c = 0; c < C; c += LANES) {
                Vector most = load(window + c);
                for (int64_t i = 1; i < 9; i++) most = maximum(most, load(window + i / 3 * from.line() + i % 3 * C + c));
                store(to.at(line / OH, line % OH, column) + c, most);
            }
        }
    });
}

}  // extern "C"
