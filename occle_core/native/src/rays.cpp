// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Rays through a voxel grid, bit by bit as occle_core.geometry.raycast and occle_core.visibility step them: compiled without
// contraction.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>

extern "C" {

// Where each of n rays from one start ends: `cell` (x * Y + y) * Z + z of the first solid cell, or of the last cell that the ray is in,
// -1 if it never enters; `hit` whether that cell is solid; `exit` where the ray leaves it, -1 if it never enters. `start` and the
// directions `ways` (n, 3) are in cells, distances in what ways count per unit.
void end_rays(const uint8_t* solid, int64_t X, int64_t Y, int64_t Z, const double* start, const double* ways, int64_t n, int32_t* cell,
              uint8_t* hit, double* exit) {
    const double infinity = std::numeric_limits<double>::infinity();
    const int64_t shape[3] = {X, Y, Z}, stride[3] = {Y * Z, Z, 1};
    for (int64_t ray = 0; ray < n; ray++) {
        const double* way = ways + 3 * ray;
        double near[3], far[3];
        for (int a = 0; a < 3; a++) {
            const double size = static_cast<double>(shape[a]);
            if (way[a] == 0) {
                near[a] = -infinity;
                far[a] = start[a] >= 0 && start[a] < size ? infinity : -infinity;
            } else {
                near[a] = (way[a] > 0 ? -start[a] : size - start[a]) / way[a];
                far[a] = (way[a] > 0 ? size - start[a] : -start[a]) / way[a];
            }
        }
        int face = 0;
        for (int a = 1; a < 3; a++)
            if (near[a] > near[face]) face = a;
        const double t = near[face] > 0 ? near[face] : 0;
        double least = far[0];
        for (int a = 1; a < 3; a++)
            if (far[a] < least) least = far[a];
        cell[ray] = -1;
        hit[ray] = 0;
        exit[ray] = -1;
        if (!(t < least)) continue;

        int64_t at[3], flat = 0;
        double plane[3], following[3], inverse[3];
        for (int a = 0; a < 3; a++) {
            double first = std::floor(start[a] + t * way[a]);
            if (t > 0 && a == face) first = way[a] > 0 ? 0 : static_cast<double>(shape[a] - 1);
            if (first < 0) first = 0;
            if (first > static_cast<double>(shape[a] - 1)) first = static_cast<double>(shape[a] - 1);
            at[a] = static_cast<int64_t>(first);
            flat += at[a] * stride[a];
            plane[a] = first + (way[a] > 0 ? 1 : 0);
            inverse[a] = 1.0 / way[a];
            following[a] = way[a] == 0 ? infinity : (plane[a] - start[a]) * inverse[a];
        }
        while (true) {
            if (solid[flat]) {
                hit[ray] = 1;
                double next = following[0];
                for (int a = 1; a < 3; a++)
                    if (following[a] < next) next = following[a];
                exit[ray] = next;
                break;
            }
            int axis = following[0] < following[1] ? 0 : 1;
            if (following[2] < (following[0] < following[1] ? following[0] : following[1])) axis = 2;
            const double crossed = following[axis];
            const int64_t step = way[axis] > 0 ? 1 : -1, onward = at[axis] + step;
            if (onward < 0 || onward >= shape[axis]) {
                exit[ray] = crossed;
                break;
            }
            at[axis] = onward;
            flat += step * stride[axis];
            plane[axis] += static_cast<double>(step);
            following[axis] = (plane[axis] - start[axis]) * inverse[axis];
        }
        cell[ray] = static_cast<int32_t>(flat);
    }
}

// As visibility.lidar_cells: sets seen (X, Y, Z) to 1 in the cells between the LiDAR and n points, both included, one ray per end cell
// (the last point's), and to 0 elsewhere. In cells: `start` of all rays (3), `ways` (3, n) from there to the points.
void pass_rays(const double* start, const float* ways, int64_t n, int64_t X, int64_t Y, int64_t Z, uint8_t* seen) {
    constexpr uint8_t passed = 1, ended = 2;
    const int64_t shape[3] = {X, Y, Z}, stride[3] = {Y * Z, Z, 1};
    const float highest[3] = {static_cast<float>(X - 1), static_cast<float>(Y - 1), static_cast<float>(Z - 1)};
    const auto cell = [&](float at, int axis) { return at > 0 ? static_cast<int64_t>(std::min(at, highest[axis])) : 0; };
    std::fill(seen, seen + X * Y * Z, 0);
    for (int64_t ray = n - 1; ray >= 0; ray--) {
        float way[3], inner = 0, outer = 1;
        for (int a = 0; a < 3; a++) {
            way[a] = ways[a * n + ray];
            const float near = static_cast<float>(-start[a]) / way[a];
            const float far = static_cast<float>(static_cast<double>(shape[a]) - start[a]) / way[a];
            inner = std::max(inner, std::min(near, far));
            outer = std::min(outer, std::max(near, far));
        }
        if (!(inner < outer) || std::isnan(way[0] + way[1] + way[2])) continue;
        int64_t first[3], last[3], begin = 0, end = 0;
        for (int a = 0; a < 3; a++) {
            first[a] = cell(static_cast<float>(start[a]) + way[a] * inner, a);
            last[a] = cell(static_cast<float>(start[a]) + way[a] * outer, a);
            begin += first[a] * stride[a];
            end += last[a] * stride[a];
        }
        if (seen[end] & ended) continue;
        seen[end] |= ended;
        seen[begin] |= passed;
        for (int a = 0; a < 3; a++) {  // planes across this axis: where the ray passes one follows from the plane alone
            const int b = (a + 1) % 3, c = (a + 2) % 3;
            const int64_t step = way[a] > 0 ? 1 : -1, count = std::abs(last[a] - first[a]), entered = first[a] + step;
            const float slope_b = way[b] / way[a], slope_c = way[c] / way[a];
            const double plane = static_cast<double>(entered + (step < 0)) - start[a];
            const float at_b = static_cast<float>(start[b] + plane * static_cast<double>(slope_b));
            const float at_c = static_cast<float>(start[c] + plane * static_cast<double>(slope_c));
            for (int64_t k = 0; k < count; k++) {
                const float moved = static_cast<float>(k * step);
                seen[(entered + k * step) * stride[a] + cell(moved * slope_b + at_b, b) * stride[b] +
                     cell(moved * slope_c + at_c, c) * stride[c]] |= passed;
            }
        }
    }
    for (int64_t i = 0; i < X * Y * Z; i++) seen[i] &= passed;
}
}
