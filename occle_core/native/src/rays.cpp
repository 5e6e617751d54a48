// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Rays through a voxel grid, bit by bit as occle_core.geometry.raycast steps them: compiled without contraction.
#include <cmath>
#include <cstdint>
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
}
