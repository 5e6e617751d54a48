// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Cells of the rolling map, bit by bit as occle_core.mapping updates them: compiled without contraction.
#include <algorithm>
#include <cmath>
#include <cstdint>

extern "C" {

// Evidence of a grid at the map's cells, each read where its centre lies in the grid. A cell of the map is turn (3, 3) @ number + shift
// (3) in cells of the grid, whose shape is GX, GY, GZ; `rise` (3) is the way along a column of Z cells. Columns of x in [low_x, high_x)
// and y in [low_y, high_y) are read. `cells` and `sources` become the numbers, in the map (columns of y: Y) and in the grid, of cells
// with evidence above 0; returns how many they are.
int64_t read_grid(const int8_t* grid, int64_t GX, int64_t GY, int64_t GZ, const float* turn, const float* shift, const float* rise,
                  int64_t low_x, int64_t high_x, int64_t low_y, int64_t high_y, int64_t Y, int64_t Z, int8_t* evidence, int32_t* cells,
                  int32_t* sources) {
    const int32_t shape[3] = {static_cast<int32_t>(GX), static_cast<int32_t>(GY), static_cast<int32_t>(GZ)};
    int64_t count = 0;
    for (int64_t x = low_x; x < high_x; x++) {
        for (int64_t y = low_y; y < high_y; y++) {
            float bottom[3];
            bool near = true;
            for (int a = 0; a < 3; a++) {
                bottom[a] = static_cast<float>(x) * turn[3 * a] + (static_cast<float>(y) * turn[3 * a + 1] + shift[a]);
                const float top = bottom[a] + rise[a];
                near = near && std::max(bottom[a], top) >= 0 && std::min(bottom[a], top) < static_cast<float>(shape[a]);
            }
            if (!near) continue;
            for (int64_t z = 0; z < Z; z++) {
                int32_t source = 0;
                bool inside = true;
                for (int a = 0; a < 3; a++) {
                    const auto at = static_cast<int32_t>(std::floor(bottom[a] + static_cast<float>(z) * turn[3 * a + 2]));
                    inside = inside && at >= 0 && at < shape[a];
                    source = source * shape[a] + at;
                }
                if (!inside) continue;
                const int64_t cell = (x * Y + y) * Z + z;
                const int8_t said = grid[source];
                evidence[cell] = static_cast<int8_t>(evidence[cell] + said);
                if (said > 0) {
                    cells[count] = static_cast<int32_t>(cell);
                    sources[count++] = source;
                }
            }
        }
    }
    return count;
}

// As Evidence.add: the log-odds of n cells after one frame's evidence. Cells without any fade towards 0 by `fading` (3) steps: of
// occupied dynamic cells, of other occupied ones, of free ones. `clearing`: least evidence of free space in dynamic cells.
void add_evidence(const int8_t* evidence, const uint8_t* dynamic, int64_t n, const int32_t* fading, int64_t clearing, int64_t lowest,
                  int64_t highest, int8_t* log_odds) {
    const int least = static_cast<int>(-clearing), low = static_cast<int>(lowest), high = static_cast<int>(highest);
    for (int64_t i = 0; i < n; i++) {
        const int held = log_odds[i], said = evidence[i];
        const int step = held > 0 ? -std::min(held, dynamic[i] ? fading[0] : fading[1]) : std::min(-held, fading[2]);
        const int cleared = dynamic[i] && said < 0 ? std::min(said, least) : said;
        log_odds[i] = static_cast<int8_t>(std::clamp(held + (said ? cleared : step), low, high));
    }
}

// As Evidence.vote: n classes that a network names for different cells, with their confidences. `moves` (256): 1 for the ids of dynamic
// classes; `most`: largest lead; `unnamed`: label of cells without a class; `log_odds`: a cell that was not occupied has no lead left.
void vote_classes(const int64_t* cells, int64_t n, const uint8_t* labels, const uint8_t* confidence, const uint8_t* moves, int64_t most,
                  int64_t unnamed, const int8_t* log_odds, uint8_t* held, uint8_t* votes, uint8_t* dynamic) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = cells[i];
        const int lead = (log_odds[at] > 0 ? votes[at] : 0) + (labels[i] == held[at] ? confidence[i] : -confidence[i]);
        if (lead < 0 || held[at] == unnamed) {
            held[at] = labels[i];
            dynamic[at] = moves[labels[i]];
        }
        votes[at] = static_cast<uint8_t>(std::min<int64_t>(lead < 0 ? -lead : lead, most));
    }
}
}
