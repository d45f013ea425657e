// Causal attention over keys and values in blocks of 64 tokens, with the softmax computed as it goes
// (arXiv:1805.02867). Keys lie with tokens side by side, so a vector holds the scores of eight tokens, and nothing
// is summed across lanes until a block is done.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels.h"
#include "sizes.h"
#include "vector.h"

namespace inferflux {
namespace {

constexpr int64_t kVectors = 4;
constexpr int64_t kQueries = kLanes == 16 ? 6 : 3;  // at a time: as many times 4 vectors of sums, and 4 of keys or values
constexpr int64_t kTaskQueries = 12;
constexpr float kNothing = -1e30f;

struct Shape {
    int64_t query_stride, table_width, heads, heads_kv, head, window;
    float scale;

    int64_t group() const { return heads / heads_kv; }
};

// A query's numbers, where it ends, and its softmax so far.
struct Query {
    const float* numbers;
    float* out;
    int64_t position;
    float largest = kNothing;
    float total = 0.0f;
};

template <int Queries>
void scores_of(const Query* queries, const uint16_t* keys, int64_t head, float (*scores)[kBlock]) {
    for (int64_t token = 0; token < kBlock; token += kVectors * kLanes) {
        Floats sums[Queries][kVectors];
        for (int q = 0; q < Queries; q++) {
            for (int v = 0; v < kVectors; v++) sums[q][v] = zero();
        }
        for (int64_t d = 0; d < head; d++) {
            Floats key[kVectors];
            for (int v = 0; v < kVectors; v++) key[v] = load_half(keys + d * kBlock + token + v * kLanes);
            for (int q = 0; q < Queries; q++) {
                const Floats x = fill(queries[q].numbers[d]);
                for (int v = 0; v < kVectors; v++) sums[q][v] = fused(x, key[v], sums[q][v]);
            }
        }
        for (int q = 0; q < Queries; q++) {
            for (int v = 0; v < kVectors; v++) store(scores[q] + token + v * kLanes, sums[q][v]);
        }
    }
}

// Turns the scores of tokens `first ..` into weights relative to the largest score so far.
void weigh(Query& query, float* scores, int64_t first, const Shape& shape) {
    const int64_t oldest = shape.window ? std::max<int64_t>(query.position - shape.window + 1, 0) : 0;
    const int64_t low = std::clamp<int64_t>(oldest - first, 0, kBlock);
    const int64_t high = std::clamp<int64_t>(query.position + 1 - first, low, kBlock);
    const Floats scale = fill(shape.scale);
    Floats found = fill(kNothing);
    for (int64_t t = 0; t < kBlock; t += kLanes) {
        // Written nowhere near: what lies in cells of others never gets a weight.
        const Mask seen = lanes(low - t, high - t);
        const Floats masked = choose(seen, fill(kNothing), multiply(load(scores + t), scale));
        store(scores + t, masked);
        found = larger(found, masked);
    }
    const float largest = std::max(query.largest, max(found));
    if (largest > query.largest) {
        const float shrink = query.largest == kNothing ? 0.0f : std::exp(query.largest - largest);
        query.total *= shrink;
        for (int64_t d = 0; d < shape.head; d++) query.out[d] *= shrink;
        query.largest = largest;
    }
    const Floats most = fill(query.largest);
    Floats total = zero();
    for (int64_t t = 0; t < kBlock; t += kLanes) {
        const Floats weight = exp(subtract(load(scores + t), most));
        store(scores + t, weight);
        total = add(total, weight);
    }
    query.total += sum(total);
}

template <int Queries, int Vectors>
void mix_part(Query* queries, const uint16_t* values, int64_t head, int64_t d, const float (*weights)[kBlock],
              int64_t tokens) {
    Floats sums[Queries][Vectors];
    for (int q = 0; q < Queries; q++) {
        for (int v = 0; v < Vectors; v++) sums[q][v] = load(queries[q].out + d + v * kLanes);
    }
    for (int64_t t = 0; t < tokens; t++) {
        Floats value[Vectors];
        for (int v = 0; v < Vectors; v++) value[v] = load_half(values + t * head + d + v * kLanes);
        for (int q = 0; q < Queries; q++) {
            const Floats weight = fill(weights[q][t]);
            for (int v = 0; v < Vectors; v++) sums[q][v] = fused(weight, value[v], sums[q][v]);
        }
    }
    for (int q = 0; q < Queries; q++) {
        for (int v = 0; v < Vectors; v++) store(queries[q].out + d + v * kLanes, sums[q][v]);
    }
}

template <int Queries>
void mix(Query* queries, const uint16_t* values, int64_t head, const float (*weights)[kBlock], int64_t tokens) {
    int64_t d = 0;
    for (; d + kVectors * kLanes <= head; d += kVectors * kLanes) {
        mix_part<Queries, kVectors>(queries, values, head, d, weights, tokens);
    }
    for (; d + kLanes <= head; d += kLanes) mix_part<Queries, 1>(queries, values, head, d, weights, tokens);
    for (; d < head; d++) {
        for (int64_t t = 0; t < tokens; t++) {
            const float value = _cvtsh_ss(values[t * head + d]);
            for (int q = 0; q < Queries; q++) queries[q].out[d] += weights[q][t] * value;
        }
    }
}

template <int Queries>
void attend(Query* queries, const uint16_t* keys, const uint16_t* values, const int32_t* table, int64_t kv_head,
            const Shape& shape) {
    const int64_t end = queries[Queries - 1].position + 1;
    const int64_t begin = shape.window ? std::max<int64_t>(queries[0].position - shape.window + 1, 0) : 0;
    for (int64_t first = begin / kBlock * kBlock; first < end; first += kBlock) {
        const int64_t at = (table[first / kBlock] * shape.heads_kv + kv_head) * shape.head * kBlock;
        float scores[Queries][kBlock];
        scores_of<Queries>(queries, keys + at, shape.head, scores);
        for (int q = 0; q < Queries; q++) weigh(queries[q], scores[q], first, shape);
        mix<Queries>(queries, values + at, shape.head, scores, std::min(kBlock, end - first));
    }
    for (int q = 0; q < Queries; q++) {
        const float factor = 1.0f / queries[q].total;
        for (int64_t d = 0; d < shape.head; d++) queries[q].out[d] *= factor;
    }
}

// Calls `attend` for a number of queries that is known only now.
template <int Most, class... Rest>
void attend_to(int64_t number, Query* queries, const Rest&... rest) {
    if constexpr (Most > 1) {
        if (number < Most) return attend_to<Most - 1>(number, queries, rest...);
    }
    attend<Most>(queries, rest...);
}

}  // namespace
}  // namespace inferflux

using namespace inferflux;

void inferflux_attention(const float* queries, int64_t query_stride, const uint16_t* key_cache,
                         const uint16_t* value_cache, const int32_t* starts, const int32_t* contexts,
                         const int32_t* tables, int64_t table_width, float* out, int64_t sequences, int64_t heads,
                         int64_t heads_kv, int64_t head, float scale, int64_t window) {
    const Shape shape{query_stride, table_width, heads, heads_kv, head, window, scale};
    const int64_t group = shape.group();
    // Tasks are runs of queries of one sequence and one head of keys; those that share keys are neighbours.
    std::vector<int64_t> tasks(sequences + 1, 0);
    for (int64_t s = 0; s < sequences; s++) {
        const int64_t count = (starts[s + 1] - starts[s]) * group;
        tasks[s + 1] = tasks[s] + (count + kTaskQueries - 1) / kTaskQueries * heads_kv;
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks[sequences]; task++) {
        const int64_t s = std::upper_bound(tasks.begin(), tasks.end(), task) - tasks.begin() - 1;
        const int64_t rows = starts[s + 1] - starts[s], count = rows * group;
        const int64_t kv_head = (task - tasks[s]) % heads_kv;
        const int64_t from = (task - tasks[s]) / heads_kv * kTaskQueries;
        const int64_t to = std::min(from + kTaskQueries, count);
        for (int64_t first = from; first < to; first += kQueries) {
            Query some[kQueries];
            const int64_t number = std::min(kQueries, to - first);
            for (int64_t q = 0; q < number; q++) {
                const int64_t row = (first + q) / group, h = kv_head * group + (first + q) % group;
                some[q].numbers = queries + (starts[s] + row) * query_stride + h * head;
                some[q].out = out + ((starts[s] + row) * heads + h) * head;
                some[q].position = contexts[s] - rows + row;
                std::fill(some[q].out, some[q].out + head, 0.0f);
            }
            const int32_t* table = tables + s * table_width;
            attend_to<kQueries>(number, some, key_cache, value_cache, table, kv_head, shape);
        }
    }
}
