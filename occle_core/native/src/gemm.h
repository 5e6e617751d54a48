// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Products of a few rows with a matrix, summed in registers.
#pragma once
#include "vectors.h"

namespace occle {

// out[r] += in[r] (`pieces` of C floats, `step` apart) @ w (a row per float, `stride` floats apart), for R rows and N vectors of output
// channels; not `Add`: out[r] = instead.
template <int R, int N, bool Add>
ALWAYS_INLINE void multiply_block(const float* const* in, int64_t C, const float* w, int64_t stride, float* const* out,
                                  int64_t pieces, int64_t step) {
    Vector sum[R][N];
    const float* row[R];
    UNROLL for (int r = 0; r < R; r++) row[r] = in[r];
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int n = 0; n < N; n++) sum[r][n] = Add ? load(out[r] + n * LANES) : Vector{};
    }
    for (int64_t piece = 0;;) {
        for (int64_t c = 0; c < C; c++, w += stride) {
            Vector b[N];
            UNROLL for (int n = 0; n < N; n++) b[n] = load(w + n * LANES);
            UNROLL for (int r = 0; r < R; r++) {
                const float x = row[r][c];
                UNROLL for (int n = 0; n < N; n++) sum[r][n] += x * b[n];
            }
        }
        if (++piece == pieces) break;
        UNROLL for (int r = 0; r < R; r++) row[r] += step;
    }
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int n = 0; n < N; n++) store(out[r] + n * LANES, sum[r][n]);
    }
}

// Rows whose sums fit into the registers beside a row of the matrix: 32 registers with AVX-512, else 16.
template <int N>
constexpr int block_rows() {
    return LANES == 16 ? (N < 3 ? 12 : 8) : N == 1 ? 8 : N == 2 ? 6 : N == 3 ? 4 : 3;
}

// The same for `count` rows; in_row(i) and out_row(i) say where row i begins.
template <int N, bool Add, class In, class Out>
inline void multiply_panel(int64_t count, int64_t C, const float* w, int64_t stride, In in_row, Out out_row, int64_t pieces,
                           int64_t step) {
    constexpr int R = block_rows<N>();
    const float* in[R];
    float* out[R];
    int64_t done = 0;
    const auto take = [&](int rows) {
        for (int r = 0; r < rows; r++) in[r] = in_row(done + r), out[r] = out_row(done + r);
        done += rows;
    };
    while (done + R <= count) take(R), multiply_block<R, N, Add>(in, C, w, stride, out, pieces, step);
    if (R > 8 && done + 8 <= count) take(8), multiply_block<(R > 8 ? 8 : 1), N, Add>(in, C, w, stride, out, pieces, step);
    if (R > 4 && done + 4 <= count) take(4), multiply_block<(R > 4 ? 4 : 1), N, Add>(in, C, w, stride, out, pieces, step);
    if (R > 2 && done + 2 <= count) take(2), multiply_block<2, N, Add>(in, C, w, stride, out, pieces, step);
    if (done < count) take(1), multiply_block<1, N, Add>(in, C, w, stride, out, pieces, step);
}

// out_row(i) (D floats, D a multiple of LANES) += in_row(i) (`pieces` of C floats, `step` apart) @ w (pieces * C, D), for `count` rows;
// not `Add`: = instead.
template <bool Add = true, class In, class Out>
inline void multiply(int64_t count, int64_t C, const float* w, int64_t D, In in_row, Out out_row, int64_t pieces = 1,
                     int64_t step = 0) {
    const int64_t vectors = D / LANES;
    int64_t at = 0;
    const auto shifted = [&](int64_t i) { return out_row(i) + at * LANES; };
    if (vectors % 3 == 0) {
        for (; at < vectors; at += 3) multiply_panel<3, Add>(count, C, w + at * LANES, D, in_row, shifted, pieces, step);
    } else if (LANES == 8 && vectors % 4 == 0) {
        for (; at < vectors; at += 4) multiply_panel<4, Add>(count, C, w + at * LANES, D, in_row, shifted, pieces, step);
    } else {
        for (; at + 2 <= vectors; at += 2) multiply_panel<2, Add>(count, C, w + at * LANES, D, in_row, shifted, pieces, step);
        if (at < vectors) multiply_panel<1, Add>(count, C, w + at * LANES, D, in_row, shifted, pieces, step);
    }
}

}  // namespace occle
