// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Cells of the rolling map, bit by bit as occle_core.mapping updates them: compiled without contraction.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

// Cells and their two neighbours `stride` apart, within rows of `row` cells, out of n.
void grow(const uint8_t* __restrict cells, int64_t n, int64_t stride, int64_t row, uint8_t* __restrict grown) {
    std::copy(cells, cells + n, grown);
    for (int64_t i = 0; i + stride < n; i++) grown[i] |= cells[i + stride];
    for (int64_t i = stride; i < n; i++) grown[i] |= cells[i - stride];
    for (int64_t begin = 0; begin < n; begin += row)  // the ends of rows have no neighbours in other rows
        for (int64_t k = 0; k < stride; k++) {
            const int64_t first = begin + k, last = begin + row - stride + k;
            grown[first] = static_cast<uint8_t>(cells[first] | (row > stride ? cells[first + stride] : 0));
            grown[last] = static_cast<uint8_t>(cells[last] | (row > stride ? cells[last - stride] : 0));
        }
}

}  // namespace

extern "C" {

// Evidence of a network's grid (X, Y, Z), steps per cell. `labels`: class ids, of which `moves` (256) tells those that move, `free` and
// `unknown` are none; `probability`: bits of float16, at which the tables `still` and `moving` (65536) hold a cell's evidence; `beside`
// (256): what becomes of evidence, by its bits, in cells with an occupied one among their 26 neighbours.
void network_evidence(const uint8_t* labels, const uint16_t* probability, int64_t X, int64_t Y, int64_t Z, const uint8_t* moves,
                      int64_t free, int64_t unknown, const int8_t* still, const int8_t* moving, const int8_t* beside, int8_t* steps) {
    const int64_t n = X * Y * Z;
    const auto unseen = static_cast<uint8_t>(unknown);
    const auto empty = static_cast<uint8_t>(free);
    std::vector<uint8_t> occupied(n), grown(n), wider(n);
    for (int64_t i = 0; i < n; i++) occupied[i] = (labels[i] != empty) & (labels[i] != unseen);
    grow(occupied.data(), n, 1, Z, grown.data());
    grow(grown.data(), n, Z, Y * Z, wider.data());
    grow(wider.data(), n, Y * Z, n, grown.data());
    for (int64_t i = 0; i < n; i++) {
        const int8_t own = (moves[labels[i]] ? moving : still)[probability[i]];
        steps[i] = labels[i] == unseen ? 0 : occupied[i] || !grown[i] ? own : beside[static_cast<uint8_t>(own)];
    }
}

// As observed_by_network: evidence of a grid, whose shape is GX, GY, GZ, at the map's cells, each read where its centre lies in the grid. A
// cell of the map is turn (3, 3) @ number + shift (3) in cells of the grid; `rise` (3) is the way along a column of Z cells. Columns of x
// in [low_x, high_x) and y in [low_y, high_y) out of X, Y are read. Of the `returns` of a scan, in the map's cells `hit` and the grid's
// cells `origin` (-1: none), those in occupied cells of the grid say which part of it is: its evidence becomes 0. `kinds` of the grid's
// cells: 0 not occupied, 1 occupied, 2 ground, which occupies no cell of the map right on top of `sure` ground. `cells` and `sources`
// become the numbers, in the map and in the grid, of the cells with such returns (the last one's), and of others with evidence above 0;
// returns how many they are.
int64_t read_grid(int8_t* grid, const uint8_t* kinds, int64_t GX, int64_t GY, int64_t GZ, const float* turn, const float* shift,
                  const float* rise, int64_t low_x, int64_t high_x, int64_t low_y, int64_t high_y, int64_t X, int64_t Y, int64_t Z,
                  const int32_t* hit, const int32_t* origin, int64_t returns, const uint8_t* sure, int8_t* evidence, int32_t* cells,
                  int32_t* sources) {
    const int32_t shape[3] = {static_cast<int32_t>(GX), static_cast<int32_t>(GY), static_cast<int32_t>(GZ)};
    int64_t count = 0;
    std::vector<uint8_t> taken(X * Y * Z);
    for (int64_t i = returns - 1; i >= 0; i--) {
        if (origin[i] < 0 || !kinds[origin[i]]) continue;
        grid[origin[i]] = 0;
        if (taken[hit[i]]) continue;
        taken[hit[i]] = 1;
        cells[count] = hit[i];
        sources[count++] = origin[i];
    }
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
                const auto sum = static_cast<int8_t>(evidence[cell] + said);
                if (said > 0 && kinds[source] == 2 && z > 0 && sure[cell - 1]) {
                    evidence[cell] = std::min(sum, std::max(evidence[cell], int8_t{0}));
                    continue;
                }
                evidence[cell] = sum;
                if (said > 0 && !taken[cell]) {
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
void add_evidence(const int8_t* __restrict evidence, const uint8_t* __restrict dynamic, int64_t n, const int32_t* fading, int64_t clearing,
                  int64_t lowest, int64_t highest, int8_t* __restrict log_odds) {
    // Of 16 bits and without branches, for vectors: a sum of two cells does not fit in 8.
    const auto least = static_cast<int16_t>(-clearing), low = static_cast<int16_t>(lowest), high = static_cast<int16_t>(highest);
    const auto moving = static_cast<int16_t>(fading[0]), still = static_cast<int16_t>(fading[1]), free = static_cast<int16_t>(fading[2]);
    const int16_t zero = 0;
    for (int64_t i = 0; i < n; i++) {
        const int16_t held = log_odds[i], said = evidence[i];
        const auto full = static_cast<int16_t>(held - (dynamic[i] ? moving : still)), empty = static_cast<int16_t>(held + free);
        const int16_t faded = held > 0 ? std::max(full, zero) : std::min(empty, zero);
        const int16_t least_said = std::min(said, least), counts = (dynamic[i] != 0) & (said < 0) ? least_said : said;
        const int16_t next = said ? static_cast<int16_t>(held + counts) : faded;
        log_odds[i] = static_cast<int8_t>(std::min(std::max(next, low), high));
    }
}

// As Evidence.vote: n classes that a network names for different cells, with their confidences. `moves` (256): 1 for the ids of dynamic
// classes; `most`: largest lead; `unnamed`: label of cells without a class; `log_odds`: a cell that was not occupied has no lead left, and
// one that a class which moves loses to one which does not is no longer occupied.
void vote_classes(const int64_t* cells, int64_t n, const uint8_t* labels, const uint8_t* confidence, const uint8_t* moves, int64_t most,
                  int64_t unnamed, int8_t* log_odds, uint8_t* held, uint8_t* votes, uint8_t* dynamic) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = cells[i];
        const int lead = (log_odds[at] > 0 ? votes[at] : 0) + (labels[i] == held[at] ? confidence[i] : -confidence[i]);
        if (lead < 0 || held[at] == unnamed) {
            if (dynamic[at] && !moves[labels[i]]) log_odds[at] = std::min<int8_t>(log_odds[at], 0);
            held[at] = labels[i];
            dynamic[at] = moves[labels[i]];
        }
        votes[at] = static_cast<uint8_t>(std::min<int64_t>(lead < 0 ? -lead : lead, most));
    }
}
}
