// Keys and values of single tokens, out of the cache and back: a block of keys has tokens side by side, a copy of a
// token has its numbers side by side.
#include "kernels.h"
#include "sizes.h"

namespace {

using inferflux::kBlock;

// Calls visit(where a head of a row begins, where its first key lies in the cache, where its values begin there).
template <class Visit>
void for_each_head(const int64_t* cells, int64_t rows, int64_t heads, int64_t head, Visit visit) {
#pragma omp parallel for schedule(static) if (rows >= inferflux::kFewRows)
    for (int64_t r = 0; r < rows; r++) {
        const int64_t block = cells[r] / kBlock, token = cells[r] % kBlock;
        for (int64_t h = 0; h < heads; h++) {
            const int64_t begin = (block * heads + h) * head * kBlock;
            visit((r * heads + h) * head, begin + token, begin + token * head);
        }
    }
}

}  // namespace

void inferflux_read_cells(const uint16_t* key_cache, const uint16_t* value_cache, const int64_t* cells, uint16_t* keys,
                          uint16_t* values, int64_t rows, int64_t heads, int64_t head) {
    for_each_head(cells, rows, heads, head, [&](int64_t at, int64_t key, int64_t value) {
        for (int64_t d = 0; d < head; d++) keys[at + d] = key_cache[key + d * kBlock];
        for (int64_t d = 0; d < head; d++) values[at + d] = value_cache[value + d];
    });
}

void inferflux_write_cells(uint16_t* key_cache, uint16_t* value_cache, const int64_t* cells, const uint16_t* keys,
                           const uint16_t* values, int64_t rows, int64_t heads, int64_t head) {
    for_each_head(cells, rows, heads, head, [&](int64_t at, int64_t key, int64_t value) {
        for (int64_t d = 0; d < head; d++) key_cache[key + d * kBlock] = keys[at + d];
        for (int64_t d = 0; d < head; d++) value_cache[value + d] = values[at + d];
    });
}
