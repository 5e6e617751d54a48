// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// The decoder's own layers: squeeze-excite, pruning, the finest level in one pass, and labels.
#include <algorithm>
#include "gemm.h"
#include "pool.h"

using namespace occle;

namespace {

constexpr int64_t PARENTS = 24;  // of the finest level at once: their children stay in the cache
constexpr int64_t MOST = 256;    // classes, and their padding

ALWAYS_INLINE float dot(const float* x, const float* w, int64_t D) {
    Vector sum{};
    for (int64_t d = 0; d < D; d += LANES) sum += load(x + d) * load(w + d);
    return sum_of(sum);
}

}  // namespace

extern "C" {

int64_t finest_parents() { return PARENTS; }

// y = relu(y * gate + x), gate = sigmoid(w2 relu(w1 mean(y) + b1) + b2): squeeze-excite and the residual sum. y, x (n, D); D counts
// padding too. w1 (D, H), w2 (H, D), `sums` has room for D per 1024 rows, `hidden` for H + D.
void excite(Pool* pool, float* y, const float* x, int64_t n, int64_t D, int64_t H, const float* w1, const float* b1, const float* w2,
            const float* b2, float* sums, float* hidden) {
    constexpr int64_t ROWS = 1024;
    const int64_t parts = parts_of(n, ROWS);
    each(pool, parts, [&](int64_t part, int64_t) {
        float* sum = sums + part * D;
        std::fill(sum, sum + D, 0.f);
        for (int64_t i = part * ROWS; i < std::min(n, (part + 1) * ROWS); i++)
            for (int64_t d = 0; d < D; d++) sum[d] += y[i * D + d];
    });
    for (int64_t part = 1; part < parts; part++)
        for (int64_t d = 0; d < D; d++) sums[d] += sums[part * D + d];
    std::copy(b1, b1 + H, hidden);
    for (int64_t d = 0; d < D && n; d++)
        for (int64_t h = 0; h < H; h++) hidden[h] += sums[d] / static_cast<float>(n) * w1[d * H + h];
    float* gate = hidden + H;
    std::copy(b2, b2 + D, gate);
    for (int64_t h = 0; h < H; h++)
        for (int64_t d = 0; d < D; d++) gate[d] += std::max(hidden[h], 0.f) * w2[h * D + d];
    for (int64_t d = 0; d < D; d++) gate[d] = 1.f / (1.f + std::exp(-gate[d]));
    each(pool, parts, [&](int64_t part, int64_t) {
        for (int64_t i = part * ROWS; i < std::min(n, (part + 1) * ROWS); i++)
            for (int64_t d = 0; d < D; d++) y[i * D + d] = std::max(y[i * D + d] * gate[d] + x[i * D + d], 0.f);
    });
}

// The cells whose logit x @ w + bias exceeds the threshold, in their order; x (n, D) and keys are compacted in place. Returns m.
int64_t prune_cells(float* x, int32_t* keys, int64_t n, int64_t D, const float* w, float bias, float threshold) {
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!(dot(x + i * D, w, D) + bias > threshold)) continue;
        if (m != i) copy_row(x + i * D, D, x + m * D);
        keys[m++] = keys[i];
    }
    return m;
}

// The finest level without writing down what is pruned: for each of n cells eight children relu(x @ w + bias); m other cells' rows
// `more` added where a child is among them; then only the cells whose logit exceeds the threshold, children first.
// children: (8 n) keys. The table is clear before and after. w (C, 8 D). used: m bytes. work: 8 D floats per parent and thread.
// kept: an int32 per 24 parents. out and keys have room for 8 n + m. Returns how many are kept.
int64_t finest_level(Pool* pool, const float* x, int64_t stride, int64_t n, int64_t C, const float* w, int64_t D, const float* bias,
                     const int32_t* children, int32_t* table, const int32_t* other, int64_t m, const float* more,
                     const float* head, float head_bias, float threshold, uint8_t* used, float* work, int32_t* kept, float* out,
                     int32_t* keys) {
    std::fill(used, used + m, uint8_t{0});
    for (int64_t i = 0; i < m; i++) table[other[i]] = static_cast<int32_t>(i);
    const int64_t parts = parts_of(n, PARENTS), W = 8 * D;
    each(pool, parts, [&](int64_t part, int64_t worker) {
        const int64_t first = part * PARENTS, parents = std::min(PARENTS, n - first);
        float* made = work + worker * PARENTS * W;
        for (int64_t i = 0; i < parents; i++) copy_row(bias, W, made + i * W);
        multiply(parents, C, w, W, [&](int64_t i) { return x + (first + i) * stride; }, [&](int64_t i) { return made + i * W; });
        float* to = out + first * W;
        int32_t* to_keys = keys + first * 8;
        int32_t count = 0;
        for (int64_t i = 0; i < 8 * parents; i++) {
            const float* child = made + i * D;
            const int32_t key = children[first * 8 + i];
            const int64_t row = table[key];
            if (row >= 0) used[row] = 1;
            Vector sum{};
            for (int64_t d = 0; d < D; d += LANES) {
                Vector value = maximum(load(child + d), Vector{});
                if (row >= 0) value += load(more + row * D + d);
                store(to + count * D + d, value);  // the next child overwrites it if it is not kept
                sum += value * load(head + d);
            }
            if (sum_of(sum) + head_bias > threshold) to_keys[count++] = key;
        }
        kept[part] = count;
    });
    int64_t total = 0;
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = part * PARENTS * 8, count = kept[part];
        if (total != first) {
            std::copy(out + first * D, out + (first + count) * D, out + total * D);
            std::copy(keys + first, keys + first + count, keys + total);
        }
        total += count;
    }
    for (int64_t i = 0; i < m; i++) {
        const float* cell = more + i * D;
        if (used[i] || !(dot(cell, head, D) + head_bias > threshold)) continue;
        copy_row(cell, D, out + total * D);
        keys[total++] = other[i];
    }
    for (int64_t i = 0; i < m; i++) table[other[i]] = -1;
    return total;
}

// Of n cells the best class (the first of equal ones) of their logits bias + x @ w, and its softmax probability as float16; cells whose
// class is `free` are left out. x: rows `stride` apart; w (C, D): columns beyond the last class are very negative, D at most MOST.
// places: of the cells, compacted in place. kept: an int32 per 48 cells. Returns how many are left.
int64_t label_cells(Pool* pool, const float* x, int64_t stride, int64_t n, int64_t C, const float* w, int64_t D, const float* bias,
                    int64_t classes, int64_t free, int32_t* kept, int32_t* places, uint8_t* labels, uint16_t* confidence) {
    constexpr int64_t ROWS = 48;
    const int64_t parts = parts_of(n, ROWS);
    each(pool, parts, [&](int64_t part, int64_t) {
        const int64_t first = part * ROWS, rows = std::min(ROWS, n - first);
        float logits[ROWS * MOST];
        for (int64_t i = 0; i < rows; i++) copy_row(bias, D, logits + i * D);
        multiply(rows, C, w, D, [&](int64_t i) { return x + (first + i) * stride; }, [&](int64_t i) { return logits + i * D; });
        int64_t to = first;
        for (int64_t i = 0; i < rows; i++) {
            const float* logit = logits + i * D;
            Vector most = load(logit);
            for (int64_t d = LANES; d < D; d += LANES) most = maximum(most, load(logit + d));
            const float best = largest_of(most);
            int64_t label = 0;
            for (int64_t d = 0; d < D; d += LANES) {
                const int place = first_equal(load(logit + d), broadcast(best));
                label = d + place;
                if (place < LANES) break;
            }
            label = std::min(label, classes - 1);  // where a logit is no number
            if (label == free) continue;
            Vector sum{};
            for (int64_t d = 0; d < D; d += LANES) sum += exp_of(load(logit + d) - best);
            places[to] = places[first + i];
            labels[to] = static_cast<uint8_t>(label);
            confidence[to++] = half_of(1.f / sum_of(sum));
        }
        kept[part] = static_cast<int32_t>(to - first);
    });
    int64_t total = 0;
    for (int64_t part = 0; part < parts; part++) {
        const int64_t first = part * ROWS, count = kept[part];
        if (total != first) {
            std::copy(places + first, places + first + count, places + total);
            std::copy(labels + first, labels + first + count, labels + total);
            std::copy(confidence + first, confidence + first + count, confidence + total);
        }
        total += count;
    }
    return total;
}

}  // extern "C"
