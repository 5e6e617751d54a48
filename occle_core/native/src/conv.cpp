// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Sparse convolutions: which input rows meet which output rows (pairs), and the products of those pairs alone.
//
// Output rows come in tiles, whose sums stay in the cache while all kernel offsets pass over them. A tile's pairs have a region of
// their own, region(K) entries long, sorted by offset; starts[tile * (K + 1) + k] is where offset k's begin in it.
#include <algorithm>
#include "gemm.h"
#include "pool.h"

using namespace occle;

namespace {
constexpr int64_t TILE = 128;
constexpr int64_t region(int64_t K) { return TILE * K + 16; }  // 16 more: sixteen pairs are written at once, found or not

// total (R rows of N vectors, `D` floats apart) += sum over pairs of x[in] (R floats) times grad[to].
template <int R, int N>
void correlate_block(const float* x, int64_t C, const int32_t* in, const float* grad, int64_t D, const uint16_t* to, int64_t pairs,
                     float* total) {
    Vector sum[R][N];
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int n = 0; n < N; n++) sum[r][n] = load(total + r * D + n * LANES);
    }
    for (int64_t p = 0; p < pairs; p++) {
        const float* a = x + in[p] * C;
        const float* g = grad + to[p] * D;
        Vector b[N];
        UNROLL for (int n = 0; n < N; n++) b[n] = load(g + n * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            UNROLL for (int n = 0; n < N; n++) sum[r][n] += a[r] * b[n];
        }
    }
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int n = 0; n < N; n++) store(total + r * D + n * LANES, sum[r][n]);
    }
}

// The same for all C rows.
template <int N>
void correlate_panel(const float* x, int64_t C, const int32_t* in, const float* grad, int64_t D, const uint16_t* to, int64_t pairs,
                     float* total) {
    constexpr int R = LANES == 16 ? 8 : 4;
    int64_t c = 0;
    for (; c + R <= C; c += R) correlate_block<R, N>(x + c, C, in, grad, D, to, pairs, total + c * D);
    for (; c < C; c++) correlate_block<1, N>(x + c, C, in, grad, D, to, pairs, total + c * D);
}
}  // namespace

extern "C" {

int64_t lanes() { return LANES; }
int64_t tile_rows() { return TILE; }
int64_t pairs_region(int64_t K) { return region(K); }
Pool* pool_create(int64_t threads) { return new Pool(threads); }
void pool_destroy(Pool* pool) { delete pool; }

// Pairs of n cells (sources) with m cells: the source at key + step of each of K steps, where there is one. The table is clear
// (negative everywhere) before and after.
void pairs_of_cells(Pool* pool, int32_t* table, const int32_t* sources, int64_t n, const int32_t* keys, int64_t m,
                    const int32_t* steps, int64_t K, int32_t* in, uint16_t* to, int32_t* starts) {
    for (int64_t i = 0; i < n; i++) table[sources[i]] = static_cast<int32_t>(i);
    each(pool, parts_of(m, TILE), [&](int64_t tile, int64_t) {
        const int64_t rows = std::min(TILE, m - tile * TILE);
        const int32_t* key = keys + tile * TILE;
        int32_t* found = in + tile * region(K);
        uint16_t* row_of = to + tile * region(K);
        int32_t* start = starts + tile * (K + 1);
        int64_t p = 0;
        for (int64_t k = 0; k < K; k++) {
            start[k] = static_cast<int32_t>(p);
            const int32_t* near = table + steps[k];
            int64_t i = 0;
#if LANES == 16
            __m512i number = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            for (; i + 16 <= rows; i += 16) {
                const __m512i row = _mm512_i32gather_epi32(_mm512_loadu_si512(key + i), near, 4);
                const __mmask16 there = _mm512_cmpge_epi32_mask(row, _mm512_setzero_si512());
                _mm512_storeu_si512(found + p, _mm512_maskz_compress_epi32(there, row));
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(row_of + p),
                                    _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(there, number)));
                number = _mm512_add_epi32(number, _mm512_set1_epi32(16));
                p += __builtin_popcount(there);
            }
#endif
            int32_t* next = found + p;
            uint16_t* next_row = row_of + p;
            int64_t more = 0;
            for (; i < rows; i++) {
                const int32_t row = near[key[i]];
                next[more] = row;
                next_row[more] = static_cast<uint16_t>(i);
                more += row >= 0;
            }
            p += more;
        }
        start[K] = static_cast<int32_t>(p);
    });
    for (int64_t i = 0; i < n; i++) table[sources[i]] = -1;
}

// Pairs from a map (m, K) of input rows; whatever is no row of the n inputs stands for none.
void pairs_of_map(Pool* pool, const int32_t* map, int64_t m, int64_t K, int64_t n, int32_t* in, uint16_t* to, int32_t* starts) {
    each(pool, parts_of(m, TILE), [&](int64_t tile, int64_t) {
        const int64_t rows = std::min(TILE, m - tile * TILE);
        const int32_t* of_tile = map + tile * TILE * K;
        int32_t* found = in + tile * region(K);
        uint16_t* row_of = to + tile * region(K);
        int32_t* start = starts + tile * (K + 1);
        int64_t p = 0;
        for (int64_t k = 0; k < K; k++) {
            start[k] = static_cast<int32_t>(p);
            for (int64_t i = 0; i < rows; i++) {
                const int32_t row = of_tile[i * K + k];
                found[p] = row;
                row_of[p] = static_cast<uint16_t>(i);
                p += row >= 0 && row < n;
            }
        }
        start[K] = static_cast<int32_t>(p);
    });
}

// A map (m, K) of n input rows with inputs and outputs exchanged: (n, K) output rows, -1 for none. Under an offset no input meets two.
void turned_map(const int32_t* map, int64_t m, int64_t K, int64_t n, int32_t* turned) {
    std::fill(turned, turned + n * K, -1);
    for (int64_t i = 0; i < m; i++)
        for (int64_t k = 0; k < K; k++) {
            const int32_t row = map[i * K + k];
            if (row >= 0 && row < n) turned[row * K + k] = static_cast<int32_t>(i);
        }
}

// out (m, D) = bias + sum over pairs of x[in] (C floats, rows `stride` apart) @ w[k]; w (K, C, D), D a multiple of LANES.
void convolve(Pool* pool, const float* x, int64_t stride, int64_t C, const float* w, int64_t K, int64_t D, const int32_t* in,
              const uint16_t* to, const int32_t* starts, int64_t m, const float* bias, int64_t relu, float* out) {
    each(pool, parts_of(m, TILE), [&](int64_t tile, int64_t) {
        float* sums = out + tile * TILE * D;
        const int64_t rows = std::min(TILE, m - tile * TILE);
        for (int64_t i = 0; i < rows; i++) copy_row(bias, D, sums + i * D);
        for (int64_t k = 0; k < K; k++) {
            const int32_t begin = starts[tile * (K + 1) + k], end = starts[tile * (K + 1) + k + 1];
            const int32_t* from = in + tile * region(K) + begin;
            const uint16_t* row_of = to + tile * region(K) + begin;
            multiply(end - begin, C, w + k * C * D, D, [&](int64_t p) { return x + from[p] * stride; },
                     [&](int64_t p) { return sums + row_of[p] * D; });
        }
        if (relu)
            for (int64_t i = 0; i < rows * D; i++) sums[i] = std::max(sums[i], 0.f);
    });
}

// total (K, C, D) = sum over pairs of x[in] (C floats) times grad[out] (D floats, a multiple of LANES): gradients of a weight.
void correlate(Pool* pool, const float* x, int64_t C, const float* grad, int64_t D, int64_t K, const int32_t* in, const uint16_t* to,
               const int32_t* starts, int64_t m, float* total) {
    each(pool, K, [&](int64_t k, int64_t) {
        float* of_k = total + k * C * D;
        std::fill(of_k, of_k + C * D, 0.f);
        for (int64_t tile = 0; tile < parts_of(m, TILE); tile++) {
            const int32_t begin = starts[tile * (K + 1) + k], pairs = starts[tile * (K + 1) + k + 1] - begin;
            const int32_t* from = in + tile * region(K) + begin;
            const uint16_t* row_of = to + tile * region(K) + begin;
            const float* rows = grad + tile * TILE * D;
            int64_t d = 0;
            for (; d + 2 * LANES <= D; d += 2 * LANES) correlate_panel<2>(x, C, from, rows + d, D, row_of, pairs, of_k + d);
            if (d < D) correlate_panel<1>(x, C, from, rows + d, D, row_of, pairs, of_k + d);
        }
    });
}

// out (n, D) = bias + x (n rows of C floats, `stride` apart) @ w (C, D), D a multiple of LANES.
void linear(Pool* pool, const float* x, int64_t stride, int64_t n, int64_t C, const float* w, int64_t D, const float* bias,
            int64_t relu, float* out) {
    constexpr int64_t ROWS = 48;
    each(pool, parts_of(n, ROWS), [&](int64_t part, int64_t) {
        const int64_t rows = std::min(ROWS, n - part * ROWS);
        const float* from = x + part * ROWS * stride;
        float* sums = out + part * ROWS * D;
        for (int64_t i = 0; i < rows; i++) copy_row(bias, D, sums + i * D);
        multiply(rows, C, w, D, [&](int64_t i) { return from + i * stride; }, [&](int64_t i) { return sums + i * D; });
        if (relu)
            for (int64_t i = 0; i < rows * D; i++) sums[i] = std::max(sums[i], 0.f);
    });
}

}  // extern "C"
