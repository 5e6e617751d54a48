// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Point features: bilinear samples of images, fused over views and scales, and the voxel feature encoder.
#include <algorithm>
#include "gemm.h"
#include "pool.h"

using namespace occle;

namespace {
constexpr int64_t POINTS = 256;  // of a part
constexpr int64_t ROWS = 64;     // points of voxels that are encoded together
}  // namespace

extern "C" {

int64_t encoder_rows() { return ROWS; }

// PointFusion: the softmax over all scales and visible views of bilinear samples, written to the C floats behind each point's first A.
// pixels: an image stack (images, height, width, C) of each of L scales; C a multiple of LANES. view (P, M), uv (P, M, 2) in 0..1;
// a view that is no image stands for none. points (P, A), out (P, A + C). work: M * L * (C + 1) floats per thread.
void fuse_points(Pool* pool, const float* const* pixels, const int64_t* heights, const int64_t* widths, int64_t L, int64_t images,
                 int64_t C, const float* score, float bias, const int64_t* view, const float* uv, int64_t P, int64_t M,
                 const float* points, int64_t A, float* out, float* work) {
    each(pool, parts_of(P, POINTS), [&](int64_t part, int64_t worker) {
        float* weight = work + worker * M * L * (C + 1);
        float* samples = weight + M * L;
        for (int64_t p = part * POINTS; p < std::min(P, (part + 1) * POINTS); p++) {
            std::copy(points + p * A, points + (p + 1) * A, out + p * (A + C));
            float* fused = out + p * (A + C) + A;
            std::fill(fused, fused + C, 0.f);
            int64_t found = 0;
            float most = -INFINITY;
            for (int64_t m = 0; m < M; m++) {
                const int64_t image = view[p * M + m];
                if (image < 0 || image >= images) continue;
                const float u = uv[(p * M + m) * 2], v = uv[(p * M + m) * 2 + 1];
                for (int64_t l = 0; l < L; l++, found++) {
                    const int64_t W = widths[l], H = heights[l];
                    const float x = std::min(std::max(u * static_cast<float>(W) - 0.5f, 0.f), static_cast<float>(W - 1));
                    const float y = std::min(std::max(v * static_cast<float>(H) - 0.5f, 0.f), static_cast<float>(H - 1));
                    const int64_t left = static_cast<int64_t>(x), top = static_cast<int64_t>(y);
                    const float fx = x - static_cast<float>(left), fy = y - static_cast<float>(top);
                    const float* a = pixels[l] + ((image * H + top) * W + left) * C;
                    const float* b = left + 1 < W ? a + C : a;
                    const int64_t down = top + 1 < H ? W * C : 0;
                    const float upper_left = (1 - fx) * (1 - fy), upper_right = fx * (1 - fy);
                    const float lower_left = (1 - fx) * fy, lower_right = fx * fy;
                    float* sample = samples + found * C;
                    Vector dot{};
                    for (int64_t c = 0; c < C; c += LANES) {
                        const Vector mix = upper_left * load(a + c) + upper_right * load(b + c) + lower_left * load(a + down + c) +
                                           lower_right * load(b + down + c);
                        store(sample + c, mix);
                        dot += mix * load(score + c);
                    }
                    weight[found] = sum_of(dot) + bias;
                    most = std::max(most, weight[found]);
                }
            }
            float total = 0;
            for (int64_t i = 0; i < found; i++) total += weight[i] = std::exp(weight[i] - most);
            for (int64_t i = 0; i < found; i++) {
                const float share = weight[i] / total;
                for (int64_t c = 0; c < C; c += LANES) store(fused + c, load(fused + c) + share * load(samples + i * C + c));
            }
        }
    });
}

// The voxel feature encoder: two layers of relu(linear), each followed by the maximum over a voxel's points; the second sees the
// first's maximum beside each point. x (P, A); table (N, K) of point rows, any other number for none; w1 (A, C), w2 (2 C, C), C a
// multiple of LANES. out (N, C). Per thread and for each of max(K, encoder_rows()) rows: work has room for 4 C floats, rows for 2.
void encode_voxels(Pool* pool, const float* x, int64_t P, int64_t A, const int64_t* table, int64_t N, int64_t K, int64_t C,
                   const float* w1, const float* b1, const float* w2, const float* b2, float* out, float* work, int64_t* rows) {
    const int64_t group = std::max<int64_t>(1, ROWS / K), most = std::max(ROWS, K);
    each(pool, parts_of(N, group), [&](int64_t part, int64_t worker) {
        const int64_t first = part * group, voxels = std::min(group, N - first);
        float* hidden = work + worker * 4 * most * C;
        float* second = hidden + most * C;
        float* pooled = second + most * C;
        float* base = pooled + most * C;  // what a voxel's maximum adds to each of its points
        int64_t* point = rows + worker * 2 * most;
        int64_t* voxel = point + most;
        int64_t count = 0;
        for (int64_t v = 0; v < voxels; v++)
            for (int64_t k = 0; k < K; k++) {
                const int64_t row = table[(first + v) * K + k];
                if (row >= 0 && row < P) point[count] = row, voxel[count++] = v;
            }
        const auto pool_points = [&](const float* from, float* to) {
            std::fill(to, to + voxels * C, 0.f);
            for (int64_t i = 0; i < count; i++)
                for (int64_t c = 0; c < C; c++) to[voxel[i] * C + c] = std::max(to[voxel[i] * C + c], from[i * C + c]);
        };
        for (int64_t i = 0; i < count; i++) copy_row(b1, C, hidden + i * C);
        multiply(count, A, w1, C, [&](int64_t i) { return x + point[i] * A; }, [&](int64_t i) { return hidden + i * C; });
        for (int64_t i = 0; i < count * C; i++) hidden[i] = std::max(hidden[i], 0.f);
        pool_points(hidden, pooled);
        for (int64_t v = 0; v < voxels; v++) copy_row(b2, C, base + v * C);
        multiply(voxels, C, w2 + C * C, C, [&](int64_t v) { return pooled + v * C; }, [&](int64_t v) { return base + v * C; });
        for (int64_t i = 0; i < count; i++) copy_row(base + voxel[i] * C, C, second + i * C);
        multiply(count, C, w2, C, [&](int64_t i) { return hidden + i * C; }, [&](int64_t i) { return second + i * C; });
        pool_points(second, out + first * C);
    });
}

}  // extern "C"
