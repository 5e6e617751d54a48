// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Images made smaller: every pixel is the mean of the area that it covers. The order and precision of the sums are those of OpenCV's
// INTER_AREA, so that both give the same bytes: compiled without contraction, no multiply-add may be fused here.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

typedef float Four __attribute__((vector_size(16)));
constexpr float NEAREST = 12582912.f;  // 1.5 * 2^23: what is added to it is rounded to whole numbers, to even ones from the middle
typedef int32_t Integers __attribute__((vector_size(16)));

// An axis of `size` pixels that becomes one of `made`: for each new pixel its first source pixel, how many there are, and where their
// shares begin (the arrays have room for `made` and for size + 2 made).
void shares_of(int64_t size, int64_t made, int32_t* first, int32_t* count, float* shares) {
    const double scale = static_cast<double>(size) / static_cast<double>(made);
    int64_t at = 0;
    for (int64_t to = 0; to < made; to++) {
        const double from = static_cast<double>(to) * scale, until = from + scale;
        const double width = std::min(scale, static_cast<double>(size) - from);
        const int64_t last = std::min(static_cast<int64_t>(std::floor(until)), size - 1);
        const int64_t whole = std::min(static_cast<int64_t>(std::ceil(from)), last);
        const int64_t begin = at;
        first[to] = static_cast<int32_t>(whole);
        if (static_cast<double>(whole) - from > 1e-3) {
            first[to]--;
            shares[at++] = static_cast<float>((static_cast<double>(whole) - from) / width);
        }
        for (int64_t i = whole; i < last; i++) shares[at++] = static_cast<float>(1.0 / width);
        if (until - static_cast<double>(last) > 1e-3)
            shares[at++] = static_cast<float>(std::min(std::min(until - static_cast<double>(last), 1.0), width) / width);
        count[to] = static_cast<int32_t>(at - begin);
    }
}

// Equally many shares for each of `made` new pixels, zeros behind its own: those of `from` into `to` (most * made). A sum over zeros
// more stays the same, and a loop that is always as long costs no wrong guesses.
void spread_shares(int64_t made, const int32_t* count, int32_t most, const float* from, float* to) {
    for (int64_t X = 0; X < made; X++)
        for (int32_t j = 0; j < most; j++) *to++ = j < count[X] ? *from++ : 0.f;
}

// A line of w pixels made W wide, four floats a pixel, each of `most` pixels; `wide` has room for the line's bytes as floats, and zeros
// for `most` pixels behind them.
void shrink_line(const uint8_t* from, int64_t w, int64_t W, const int32_t* column, int32_t most, const float* share, float* wide,
                 float* line) {
    for (int64_t k = 0; k < 3 * w; k++) wide[k] = static_cast<float>(from[k]);
    for (int64_t X = 0; X < W; X++, share += most) {
        const float* pixel = wide + 3 * column[X];
        Four total{};
        for (int32_t j = 0; j < most; j++) {
            Four colour;  // and the next pixel's first channel
            std::memcpy(&colour, pixel + 3 * j, sizeof colour);
            total += colour * share[j];
        }
        std::memcpy(line + 4 * X, &total, sizeof total);
    }
}

}  // namespace

extern "C" {

// (h, w, 3) uint8 with rows `stride` bytes apart -> (H, W, 3), H <= h, W <= w, not both whole parts of them. numbers: room for 2 (H + W) int32.
// work: room for h + 2 H + 8 w + 18 W + 16 floats.
void resize_area(const uint8_t* image, int64_t h, int64_t w, int64_t stride, int64_t H, int64_t W, uint8_t* out, int32_t* numbers,
                 float* work) {
    int32_t *row = numbers, *rows = row + H, *column = rows + H, *columns = column + W;
    float *down = work, *own = down + h + 2 * H, *across = own + w + 2 * W, *line = across + w + 2 * W, *sum = line + 4 * W;
    float* wide = sum + 4 * W;
    shares_of(h, H, row, rows, down);
    shares_of(w, W, column, columns, own);
    const int32_t most = *std::max_element(columns, columns + W);
    spread_shares(W, columns, most, own, across);
    std::fill(wide + 3 * w, wide + 3 * (w + most) + 1, 0.f);
    int32_t made = -1;
    for (int64_t Y = 0; Y < H; Y++) {
        for (int32_t i = 0; i < rows[Y]; i++) {
            // The line before, which two rows share, is there already.
            if (row[Y] + i != made) shrink_line(image + (row[Y] + i) * stride, w, W, column, most, across, wide, line);
            made = row[Y] + i;
            const float beta = *down++;
            if (i)
                for (int64_t k = 0; k < 4 * W; k++) sum[k] += beta * line[k];
            else
                for (int64_t k = 0; k < 4 * W; k++) sum[k] = beta * line[k];
        }
        for (int64_t X = 0; X < W; X++) {
            Four colour;
            std::memcpy(&colour, sum + 4 * X, sizeof colour);
            const Integers whole = __builtin_convertvector(colour + NEAREST - NEAREST, Integers);
            for (int64_t c = 0; c < 3; c++) out[(Y * W + X) * 3 + c] = static_cast<uint8_t>(std::min(255, whole[c]));
        }
    }
}

}  // extern "C"
