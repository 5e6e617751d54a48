// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// The cells of a level. A key numbers a cell of a box that is one cell larger than the grid on every side; a table holds the row of
// each cell by its key, and a negative number where no cell is. Tables are kept from frame to frame and cleared key by key: they are
// clear before and after each function.
#include <algorithm>
#include <cstdint>

namespace {

// Quotients of numbers below 2^32 by a constant, exact, with a multiplication.
struct Divider {
    uint64_t inverse;
    explicit Divider(int64_t divisor) : inverse((uint64_t{1} << 63) / static_cast<uint64_t>(divisor) + 1) {}
    int32_t operator()(int32_t n) const {
        __extension__ typedef unsigned __int128 Wide;
        return static_cast<int32_t>(static_cast<Wide>(static_cast<uint32_t>(n)) * inverse >> 63);
    }
};

// Numbers the keys whose entry in the table is not negative, in order, and lists them. Most of a table is empty.
int32_t number_cells(int32_t* table, int64_t cells, int32_t* keys) {
    constexpr int64_t BLOCK = 32;
    int32_t m = 0;
    for (int64_t first = 0; first < cells; first += BLOCK) {
        const int64_t end = std::min(cells, first + BLOCK);
        int32_t all = -1;
        if (end - first == BLOCK)
            for (int64_t i = 0; i < BLOCK; i++) all &= table[first + i];
        else all = 0;
        if (all < 0) continue;  // every sign is set
        for (int64_t key = first; key < end; key++)
            if (table[key] >= 0) table[key] = m, keys[m++] = static_cast<int32_t>(key);
    }
    return m;
}

void fill_table(int32_t* table, const int32_t* keys, int64_t n) {
    for (int64_t i = 0; i < n; i++) table[keys[i]] = static_cast<int32_t>(i);
}

void clear_table(int32_t* table, const int32_t* keys, int64_t n) {
    for (int64_t i = 0; i < n; i++) table[keys[i]] = -1;
}

}  // namespace

extern "C" {

// Keys of n cells (batch, x, y, z) of `grids` grids. Returns -1, or the first cell that lies outside or stands twice.
int64_t enter_cells(const int64_t* coords, int64_t n, int64_t grids, int64_t X, int64_t Y, int64_t Z, int32_t* table, int32_t* keys) {
    int64_t i = 0;
    for (; i < n; i++) {
        const int64_t b = coords[4 * i], x = coords[4 * i + 1], y = coords[4 * i + 2], z = coords[4 * i + 3];
        if (b < 0 || b >= grids || x < 0 || x >= X || y < 0 || y >= Y || z < 0 || z >= Z) break;
        const int64_t key = ((b * (X + 2) + x + 1) * (Y + 2) + y + 1) * (Z + 2) + z + 1;
        if (table[key] >= 0) break;
        table[key] = static_cast<int32_t>(i);
        keys[i] = static_cast<int32_t>(key);
    }
    clear_table(table, keys, i);
    return i < n ? i : -1;
}

// The coarser cells that hold a cell, in C order, and their map (m, 8) of fine rows, `none` where there is no cell. PX, PY, PZ and CX,
// CY, CZ: the padded boxes of the fine and of the coarse grid, of which there may be several, one after the other; `cells`: of all
// coarse boxes. `parent` and `place` have room for n. Returns m.
int64_t strided_cells(const int32_t* keys, int64_t n, int64_t PX, int64_t PY, int64_t PZ, int64_t cells, int64_t CX, int64_t CY,
                      int64_t CZ, int64_t none, int32_t* table, int32_t* coarse, int32_t* map, int32_t* parent, uint8_t* place) {
    const Divider box(PX), plane(PY * PZ), row(PZ);
    for (int64_t i = 0; i < n; i++) {
        const int32_t planes = plane(keys[i]), rest = keys[i] - planes * static_cast<int32_t>(PY * PZ), py = row(rest);
        const int32_t b = box(planes), x = planes - b * static_cast<int32_t>(PX) - 1, y = py - 1;
        const int32_t z = rest - py * static_cast<int32_t>(PZ) - 1;
        parent[i] = static_cast<int32_t>(((b * CX + (x >> 1) + 1) * CY + (y >> 1) + 1) * CZ + (z >> 1) + 1);
        place[i] = static_cast<uint8_t>((x & 1) * 4 + (y & 1) * 2 + (z & 1));
        table[parent[i]] = 0;
    }
    const int32_t m = number_cells(table, cells, coarse);
    std::fill(map, map + 8 * m, static_cast<int32_t>(none));
    for (int64_t i = 0; i < n; i++) map[table[parent[i]] * 8 + place[i]] = static_cast<int32_t>(i);
    clear_table(table, coarse, m);
    return m;
}

// The cells of the grid within one cell of any of these, in C order: keys (room for 27 n). Returns m.
int64_t grown_cells(const int32_t* keys, int64_t n, int64_t PX, int64_t PY, int64_t PZ, int32_t* table, int32_t* grown) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t x = -1; x < 2; x++)
            for (int64_t y = -1; y < 2; y++)
                for (int64_t z = -1; z < 2; z++) table[keys[i] + (x * PY + y) * PZ + z] = 0;
    int32_t m = 0;
    for (int64_t x = 0; x < PX; x++)
        for (int64_t y = 0; y < PY; y++)
            for (int64_t z = 0; z < PZ; z++) {
                const int64_t key = (x * PY + y) * PZ + z;
                if (table[key] < 0) continue;
                const bool margin = !x || !y || !z || x == PX - 1 || y == PY - 1 || z == PZ - 1;
                table[key] = -1;
                if (!margin) grown[m++] = static_cast<int32_t>(key);
            }
    return m;
}

// Keys of the eight children of each cell, parent by parent. PY, PZ: the coarse box, FY, FZ: the fine one, along y, z.
void children_cells(const int32_t* keys, int64_t n, int64_t PY, int64_t PZ, int64_t FY, int64_t FZ, int32_t* children) {
    const Divider plane(PY * PZ), row(PZ);
    for (int64_t i = 0; i < n; i++) {
        const int32_t x = plane(keys[i]), rest = keys[i] - x * static_cast<int32_t>(PY * PZ), y = row(rest);
        const int64_t z = rest - y * PZ, first = ((2 * x - 1) * FY + 2 * y - 1) * FZ + 2 * z - 1;
        for (int64_t k = 0; k < 8; k++) children[8 * i + k] = static_cast<int32_t>(first + ((k >> 2) * FY + (k >> 1 & 1)) * FZ + (k & 1));
    }
}

// out (n, D) of n cells += x (m, D) of m others, where both are.
void add_at_cells(int32_t* table, const int32_t* keys, int64_t n, const int32_t* other, int64_t m, int64_t D, const float* x, float* out) {
    fill_table(table, keys, n);
    for (int64_t i = 0; i < m; i++) {
        const int64_t row = table[other[i]];
        if (row < 0) continue;
        for (int64_t d = 0; d < D; d++) out[row * D + d] += x[i * D + d];
    }
    clear_table(table, keys, n);
}

// Adds rows of m other cells to those of n cells; those of cells that are not among the n are appended. `keys` and `out` have room for
// n + m. Returns the cells there are then.
int64_t unite_cells(int32_t* table, int32_t* keys, int64_t n, const int32_t* other, int64_t m, int64_t D, const float* x, float* out) {
    fill_table(table, keys, n);
    int64_t total = n;
    for (int64_t i = 0; i < m; i++) {
        const int64_t row = table[other[i]];
        const float* more = x + i * D;
        if (row >= 0) {
            for (int64_t d = 0; d < D; d++) out[row * D + d] += more[d];
        } else {
            keys[total] = other[i];
            std::copy(more, more + D, out + total++ * D);
        }
    }
    clear_table(table, keys, n);
    return total;
}

// What decoder.cpp needs of a key: the place of its cell in the grid's volume. PY, PZ: the padded box along y, z.
void places_of_cells(const int32_t* keys, int64_t n, int64_t PY, int64_t PZ, int32_t* places) {
    const Divider plane(PY * PZ), row(PZ);
    for (int64_t i = 0; i < n; i++) {
        const int32_t x = plane(keys[i]), rest = keys[i] - x * static_cast<int32_t>(PY * PZ), y = row(rest);
        places[i] = static_cast<int32_t>(((x - 1) * (PY - 2) + y - 1) * (PZ - 2) + rest - y * PZ - 1);
    }
}

}  // extern "C"
