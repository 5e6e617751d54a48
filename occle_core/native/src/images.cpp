// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Convolutions of images. A stack of images (images, height, width, C) lies in memory with a margin of zeros around each image: its
// pitch is (H + 2 margin) x (W + 2 margin) pixels. C, D: channels of a pixel, multiples of LANES, but for the C of whole kernel rows.
#include <algorithm>
#include "gemm.h"
#include "pool.h"

using namespace occle;

namespace {

constexpr int64_t PIXELS = 48;  // of a part
constexpr int64_t TILES = 24;   // of 2 x 2 pixels
// Floats from one of a window's 16 places to the next, of C channels: no multiple of a page, whose lines would drive each other out.
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

// B^T d B of Winograd's F(2 x 2, 3 x 3), over the channels of a 4 x 4 window of lines: `to` gets 16 vectors, `step` floats apart.
ALWAYS_INLINE void window_of(const float* x, int64_t line, int64_t C, float* to, int64_t step) {
    Vector half[4][4];
    UNROLL for (int i = 0; i < 4; i++) {
        const Vector a = load(x + i * C), b = load(x + line + i * C), c = load(x + 2 * line + i * C), d = load(x + 3 * line + i * C);
        half[0][i] = a - c, half[1][i] = b + c, half[2][i] = c - b, half[3][i] = b - d;
    }
    UNROLL for (int i = 0; i < 4; i++) {
        const Vector a = half[i][0], b = half[i][1], c = half[i][2], d = half[i][3];
        store(to + (4 * i) * step, a - c), store(to + (4 * i + 1) * step, b + c);
        store(to + (4 * i + 2) * step, c - b), store(to + (4 * i + 3) * step, b - d);
    }
}

// A^T m A: the 2 x 2 sums of 16 vectors.
ALWAYS_INLINE void sums_of(const float* m, int64_t step, Vector (&sum)[2][2]) {
    Vector half[2][4];
    UNROLL for (int i = 0; i < 4; i++) {
        const Vector a = load(m + i * step), b = load(m + (4 + i) * step), c = load(m + (8 + i) * step), d = load(m + (12 + i) * step);
        half[0][i] = a + b + c, half[1][i] = b - c - d;
    }
    UNROLL for (int i = 0; i < 2; i++) {
        sum[i][0] = half[i][0] + half[i][1] + half[i][2];
        sum[i][1] = half[i][1] - half[i][2] - half[i][3];
    }
}

}  // namespace

extern "C" {

int64_t winograd_room(int64_t channels) { return 16 * TILES * channels + 2 * 16 * 16; }

// Bytes (images, H, W, 3) through a table (256, 3) into a stack with this margin.
void look_up_pixels(Pool* pool, const uint8_t* bytes, int64_t images, int64_t H, int64_t W, const float* table, int64_t margin,
                    float* out) {
    const Images<float> to{out, H, W, 3, margin};
    each(pool, images * H, [&](int64_t line, int64_t) {
        float* pixel = to.at(line / H, line % H, 0);
        const uint8_t* from = bytes + line * W * 3;
        for (int64_t i = 0; i < 3 * W; i += 3)
            for (int64_t c = 0; c < 3; c++) pixel[i + c] = table[3 * from[i + c] + c];
    });
}

// out = act(bias + more + x * w): kernel `size` x `size`, padding size / 2; w (size, size * C, D). `more`, null for none, has MH x MW
// pixels and a margin of 1; every pixel of the result takes the one at its place in it.
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

// The same for 3 x 3 kernels, stride 1, even H and W, by Winograd's minimal filtering: w (16, C, D) are transformed kernels, `more` is
// as large as `out`, and all stacks but `out` have margins of 1. work: winograd_room(C + D) floats per thread.
void convolve_winograd(Pool* pool, const float* x, int64_t images, int64_t H, int64_t W, int64_t C, const float* w, int64_t D,
                       const float* bias, const float* more, int64_t relu, float* out, int64_t out_margin, float* work) {
    const int64_t wide = W / 2, high = H / 2, tiles = images * high * wide;
    const Images<const float> from{x, H, W, C, 1}, other{more, H, W, D, 1};
    const Images<float> to{out, H, W, D, out_margin};
    each(pool, parts_of(tiles, TILES), [&](int64_t part, int64_t worker) {
        const int64_t first = part * TILES, count = std::min(TILES, tiles - first);
        float* windows = work + worker * winograd_room(C + D);
        float* products = windows + 16 * place(C);
        const auto tile = [&](int64_t i, int64_t& image, int64_t& y, int64_t& column) {
            image = (first + i) / (high * wide), y = 2 * ((first + i) / wide % high), column = 2 * ((first + i) % wide);
        };
        int64_t image, y, column;
        for (int64_t i = 0; i < count; i++) {
            tile(i, image, y, column);
            const float* window = from.at(image, y - 1, column - 1);
            for (int64_t c = 0; c < C; c += LANES) window_of(window + c, from.line(), C, windows + i * C + c, place(C));
        }
        for (int64_t k = 0; k < 16; k++)
            multiply<false>(count, C, w + k * C * D, D, [&](int64_t i) { return windows + k * place(C) + i * C; },
                     [&](int64_t i) { return products + k * place(D) + i * D; });
        for (int64_t i = 0; i < count; i++) {
            tile(i, image, y, column);
            for (int64_t d = 0; d < D; d += LANES) {
                Vector sum[2][2];
                sums_of(products + i * D + d, place(D), sum);
                UNROLL for (int a = 0; a < 2; a++) {
                    UNROLL for (int b = 0; b < 2; b++) {
                        Vector value = sum[a][b] + load(bias + d);
                        if (more) value += load(other.at(image, y + a, column + b) + d);
                        store(to.at(image, y + a, column + b) + d, relu ? maximum(value, Vector{}) : value);
                    }
                }
            }
        }
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
