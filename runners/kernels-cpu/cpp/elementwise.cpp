// Norms, gates, and positions with the way into the cache: what happens between the linear layers.
#include <cmath>

#include "kernels.h"
#include "sizes.h"
#include "vector.h"

namespace inferflux {
namespace {

void normalise(const float* in, const float* weight, float* out, int64_t width, float epsilon) {
    Floats squares = zero();
    for (int64_t i = 0; i < width; i += kLanes) {
        const Floats x = load(in + i, lanes(0, width - i));
        squares = fused(x, x, squares);
    }
    const Floats factor = fill(1.0f / std::sqrt(sum(squares) / static_cast<float>(width) + epsilon));
    for (int64_t i = 0; i < width; i += kLanes) {
        const Mask mask = lanes(0, width - i);
        const Floats x = multiply(load(in + i, mask), factor);
        store(out + i, multiply(x, load(weight + i, mask)), mask);
    }
}

struct Silu {
    static Floats of(Floats x) { return divide(x, add(fill(1.0f), exp(subtract(zero(), x)))); }
};

// x / 2 * (1 + tanh(y)) is x / (1 + e^-2y).
struct Gelu {
    static Floats of(Floats x) {
        const Floats inner = fused(multiply(multiply(x, x), x), fill(0.044715f), x);
        const Floats e = exp(multiply(inner, fill(-2.0f * 0.7978845608028654f)));
        return divide(x, add(fill(1.0f), e));
    }
};

template <class Activation>
void gated(const float* in, float* out, int64_t rows, int64_t inner) {
#pragma omp parallel for schedule(static) if (rows >= kFewRows)
    for (int64_t r = 0; r < rows; r++) {
        const float* gates = in + r * 2 * inner;
        const float* through = gates + inner;
        float* result = out + r * inner;
        for (int64_t i = 0; i < inner; i += kLanes) {
            const Mask mask = lanes(0, inner - i);
            const Floats gate = Activation::of(load(gates + i, mask));
            store(result + i, multiply(gate, load(through + i, mask)), mask);
        }
    }
}

void rotate(float* head, const float* table, int64_t rotated) {
    const int64_t half = rotated / 2;
    const float *cosines = table, *sines = table + half;
    for (int64_t i = 0; i < half; i++) {
        const float first = head[i], second = head[i + half];
        head[i] = first * cosines[i] - second * sines[i];
        head[i + half] = second * cosines[i] + first * sines[i];
    }
}

uint16_t to_half(float x) { return static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)); }

}  // namespace
}  // namespace inferflux

using namespace inferflux;

void inferflux_rms_norm(const float* in, const float* weight, float* out, int64_t rows, int64_t width,
                        float epsilon) {
#pragma omp parallel for schedule(static) if (rows >= kFewRows)
    for (int64_t r = 0; r < rows; r++) normalise(in + r * width, weight, out + r * width, width, epsilon);
}

void inferflux_add_rms_norm(float* residual, const float* in, const float* weight, float* out, int64_t rows,
                            int64_t width, float epsilon) {
#pragma omp parallel for schedule(static) if (rows >= kFewRows)
    for (int64_t r = 0; r < rows; r++) {
        float* sums = residual + r * width;
        for (int64_t i = 0; i < width; i++) sums[i] += in[r * width + i];
        normalise(sums, weight, out + r * width, width, epsilon);
    }
}

void inferflux_head_norm(float* heads, int64_t stride, const float* weight, int64_t rows, int64_t number, int64_t head,
                         float epsilon) {
#pragma omp parallel for schedule(static) if (rows >= kFewRows)
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t h = 0; h < number; h++) {
            float* numbers = heads + r * stride + h * head;
            normalise(numbers, weight, numbers, head, epsilon);
        }
    }
}

void inferflux_gated_silu(const float* in, float* out, int64_t rows, int64_t inner) {
    gated<Silu>(in, out, rows, inner);
}

void inferflux_gated_gelu(const float* in, float* out, int64_t rows, int64_t inner) {
    gated<Gelu>(in, out, rows, inner);
}

void inferflux_rotate_and_store(float* queries, int64_t query_stride, float* keys, int64_t key_stride,
                                const float* values, int64_t value_stride, const float* table,
                                const int64_t* positions, const int64_t* cells, uint16_t* key_cache,
                                uint16_t* value_cache, int64_t rows, int64_t heads, int64_t heads_kv, int64_t head,
                                int64_t rotated) {
#pragma omp parallel for schedule(static) if (rows >= kFewRows)
    for (int64_t r = 0; r < rows; r++) {
        const float* angles = table + positions[r] * rotated;
        for (int64_t h = 0; h < heads; h++) rotate(queries + r * query_stride + h * head, angles, rotated);
        const int64_t block = cells[r] / kBlock, token = cells[r] % kBlock;
        for (int64_t h = 0; h < heads_kv; h++) {
            float* key = keys + r * key_stride + h * head;
            const float* value = values + r * value_stride + h * head;
            rotate(key, angles, rotated);
            const int64_t at = (block * heads_kv + h) * head * kBlock;
            for (int64_t d = 0; d < head; d++) {
                key_cache[at + d * kBlock + token] = to_half(key[d]);
                value_cache[at + token * head + d] = to_half(value[d]);
            }
        }
    }
}
