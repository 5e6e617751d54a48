// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Points into voxels and into images, bit by bit as NumPy computes it: compiled without contraction, no multiply-add may be fused here.
#include <algorithm>
#include <cstdint>

extern "C" {

// n points (rows of `row` floats) through the three rows of four of a matrix; out (n, 3).
void transform_points(const float* points, int64_t n, int64_t row, const float* T, float* out) {
    for (int64_t i = 0; i < n; i++) {
        const float* p = points + i * row;
        for (int64_t a = 0; a < 3; a++) out[3 * i + a] = T[4 * a] * p[0] + T[4 * a + 1] * p[1] + T[4 * a + 2] * p[2] + T[4 * a + 3];
    }
}

// The cell (x * Y + y) * Z + z of each of n points (rows `row`, coordinates `axis` floats apart), or -1 outside the grid, and how
// many points each cell holds: the table `counts`, one less than that, clear (-1 everywhere) before.
void cells_of_points(const float* points, int64_t n, int64_t row, int64_t axis, const float* origin, float size, int64_t X, int64_t Y,
                     int64_t Z, int32_t* cells, int32_t* counts) {
    const float most[3] = {static_cast<float>(X), static_cast<float>(Y), static_cast<float>(Z)};
    for (int64_t i = 0; i < n; i++) {
        bool inside = true;
        int64_t at[3];
        for (int64_t a = 0; a < 3; a++) {
            const float x = (points[i * row + a * axis] - origin[a]) / size;
            const bool within = (x >= 0) & (x < most[a]);
            at[a] = static_cast<int64_t>(within ? x : 0.f);
            inside &= within;  // without a branch: no one foresees which points lie inside
        }
        cells[i] = inside ? static_cast<int32_t>((at[0] * Y + at[1]) * Z + at[2]) : -1;
    }
    for (int64_t i = 0; i < n && counts; i++)
        if (cells[i] >= 0) counts[cells[i]]++;
}

// The occupied cells of a table of counts, in C order, with their points in scan order: a stable counting sort. `cell` and `count`
// (room for n) are written per voxel, `order` (room for n) holds the points. The table is clear again afterwards. Returns how many.
int64_t sort_points(const int32_t* cells, int64_t n, int32_t* counts, int64_t size, int32_t* order, int32_t* cell, int32_t* count) {
    constexpr int64_t BLOCK = 32;
    int32_t voxels = 0, begin = 0;
    for (int64_t first = 0; first < size; first += BLOCK) {
        const int64_t end = std::min(size, first + BLOCK);
        int32_t all = -1;
        for (int64_t at = first; at < end; at++) all &= counts[at];
        if (all < 0) continue;  // every sign is set: most of the table is empty
        for (int64_t at = first; at < end; at++) {
            if (counts[at] < 0) continue;
            const int32_t own = counts[at] + 1;
            cell[voxels] = static_cast<int32_t>(at);
            count[voxels++] = own;
            counts[at] = begin;
            begin += own;
        }
    }
    for (int64_t i = 0; i < n; i++)
        if (cells[i] >= 0) order[counts[cells[i]]++] = static_cast<int32_t>(i);
    for (int32_t v = 0; v < voxels; v++) counts[cell[v]] = -1;
    return voxels;
}

// At most K points of each of V voxels, spread evenly: rows and voxel (P,), table (V, K) of positions in them (P for none), cells
// (V, 3). P is the sum of min(count, K).
void keep_points(const int32_t* order, const int32_t* cell, const int32_t* count, int64_t V, int64_t K, int64_t P, int64_t Y, int64_t Z,
                 int64_t* rows, int64_t* voxel, int64_t* table, int64_t* cells) {
    int64_t p = 0, begin = 0;
    for (int64_t v = 0; v < V; v++) {
        const int64_t all = count[v], kept = std::min(all, K);
        for (int64_t k = 0; k < K; k++) {
            table[v * K + k] = k < kept ? p : P;
            if (k >= kept) continue;
            rows[p] = order[begin + k * all / kept];
            voxel[p++] = v;
        }
        begin += all;
        cells[3 * v] = cell[v] / (Y * Z);
        cells[3 * v + 1] = cell[v] / Z % Y;
        cells[3 * v + 2] = cell[v] % Z;
    }
}

// Ten features (see occle_core.networks.blocks.voxelise) of P points of V voxels; `sums` has room for 4 numbers per voxel.
void features_of_points(const float* points, int64_t row, int64_t axis, const float* intensity, const int64_t* voxel,
                        int64_t P, const int64_t* cells, int64_t V, const double* origin, double size,
                        const float* lower, const float* upper, double* sums, float* out) {
    std::fill(sums, sums + 4 * V, 0.0);
    for (int64_t p = 0; p < P; p++) {
        double* sum = sums + 4 * voxel[p];
        for (int64_t a = 0; a < 3; a++) sum[a] += static_cast<double>(points[p * row + a * axis]);
        sum[3] += 1;
    }
    const float edge = static_cast<float>(size);
    for (int64_t p = 0; p < P; p++) {
        const int64_t v = voxel[p];
        float* f = out + 10 * p;
        f[3] = intensity[p];
        for (int64_t a = 0; a < 3; a++) {
            const float at = points[p * row + a * axis];
            const float mean = static_cast<float>(sums[4 * v + a]) / static_cast<float>(sums[4 * v + 3]);
            const float center = static_cast<float>((static_cast<double>(cells[3 * v + a]) + 0.5) * size + origin[a]);
            f[a] = (at - lower[a]) / (upper[a] - lower[a]) * 2 - 1;
            f[4 + a] = (at - mean) / edge;
            f[7 + a] = (at - center) / edge;
        }
    }
}

// One more camera for P points (rows `row` floats apart): where each is seen in it, inserted among its M views so far, the farthest
// from the border first. T (3, 4) maps points to pixels times depth. view, uv, margin (P, M) hold "none", 0 and -1 at first.
void view_of_points(const float* points, int64_t row, int64_t P, const double* T, int64_t width, int64_t height, int64_t camera,
                    int64_t M, int64_t* view, float* uv, float* margin) {
    const double W = static_cast<double>(width), H = static_cast<double>(height);
    for (int64_t p = 0; p < P; p++) {
        const double x = points[p * row], y = points[p * row + 1], z = points[p * row + 2];
        const double depth = x * T[8] + y * T[9] + z * T[10] + T[11];
        if (!(depth > 0)) continue;
        const double u = (x * T[0] + y * T[1] + z * T[2] + T[3]) / depth, v = (x * T[4] + y * T[5] + z * T[6] + T[7]) / depth;
        if (!(u >= -0.5 && u < W - 0.5 && v >= -0.5 && v < H - 0.5)) continue;
        const float a = static_cast<float>((u + 0.5) / W), b = static_cast<float>((v + 0.5) / H);
        const float inset = std::min(std::min(a, 1 - a), std::min(b, 1 - b));
        int64_t* views = view + p * M;
        float* places = uv + 2 * p * M;
        float* margins = margin + p * M;
        int64_t slot = 0;
        while (slot < M && !(inset > margins[slot])) slot++;
        for (int64_t i = M - 1; i > slot; i--) {
            views[i] = views[i - 1], margins[i] = margins[i - 1];
            places[2 * i] = places[2 * i - 2], places[2 * i + 1] = places[2 * i - 1];
        }
        if (slot < M) views[slot] = camera, margins[slot] = inset, places[2 * slot] = a, places[2 * slot + 1] = b;
    }
}

// Motion compensation: each of n points (rows of `row` floats: x, y, z, intensity) through the transform of a table of K (three rows of
// four) whose time is nearest to the point's, (time - first) * inverse; into out (n, 4).
void move_points(const float* points, int64_t n, int64_t row, const float* times, float first, float inverse, const float* table,
                 int64_t K, float* out) {
    const int32_t last = static_cast<int32_t>(K - 1);
    for (int64_t i = 0; i < n; i++) {
        const float* p = points + i * row;
        const int32_t nearest = static_cast<int32_t>((times[i] - first) * inverse + 0.5f);
        const float* T = table + 12 * std::min(std::max(nearest, 0), last);
        for (int64_t a = 0; a < 3; a++) out[4 * i + a] = T[4 * a] * p[0] + T[4 * a + 1] * p[1] + T[4 * a + 2] * p[2] + T[4 * a + 3];
        out[4 * i + 3] = p[3];
    }
}

}  // extern "C"
