// Linear layers. A weight is cut into panels of 16 outputs; within a panel, the 16 numbers of an input lie side by
// side, so that a panel is read front to back while 16 sums per row stay in registers. No sums across lanes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels.h"
#include "vector.h"

namespace inferflux {
namespace {

constexpr int64_t kPanel = 16;
constexpr int64_t kTile = 6;  // rows whose sums fit into registers
constexpr int64_t kCacheBytes = 192 * 1024;

int64_t panels_of(int64_t outputs) { return (outputs + kPanel - 1) / kPanel; }

// Rows that stay in the second cache while the panels pass by.
int64_t rows_at_once(int64_t row_bytes) {
    return std::max<int64_t>(kCacheBytes / row_bytes / kTile, 1) * kTile;
}

struct BFloat16 {
    static void load(const uint16_t* from, __m256& low, __m256& high) {
        const auto* words = reinterpret_cast<const __m128i*>(from);
        low = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(words)), 16));
        high = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(words + 1)), 16));
    }
};

struct Half {
    static void load(const uint16_t* from, __m256& low, __m256& high) {
        low = load_half(from);
        high = load_half(from + kLanes);
    }
};

// The 16 sums of a row, with the bias, to where the last panel may have fewer columns.
void store_panel(float* out, __m256 low, __m256 high, const float* bias, int64_t columns) {
    if (columns >= kPanel) {
        if (bias) {
            low = _mm256_add_ps(low, _mm256_loadu_ps(bias));
            high = _mm256_add_ps(high, _mm256_loadu_ps(bias + kLanes));
        }
        _mm256_storeu_ps(out, low);
        _mm256_storeu_ps(out + kLanes, high);
        return;
    }
    float sums[kPanel];
    _mm256_storeu_ps(sums, low);
    _mm256_storeu_ps(sums + kLanes, high);
    for (int64_t i = 0; i < columns; i++) out[i] = sums[i] + (bias ? bias[i] : 0.0f);
}

template <class Words, int Rows>
void float_tile(const float* in, int64_t inputs, const uint16_t* panel, const float* bias, float* out,
                int64_t outputs, int64_t columns) {
    __m256 low[Rows], high[Rows];
    for (int r = 0; r < Rows; r++) low[r] = high[r] = _mm256_setzero_ps();
    for (int64_t k = 0; k < inputs; k++) {
        __m256 weight_low, weight_high;
        Words::load(panel + k * kPanel, weight_low, weight_high);
        for (int r = 0; r < Rows; r++) {
            const __m256 x = _mm256_broadcast_ss(in + r * inputs + k);
            low[r] = _mm256_fmadd_ps(x, weight_low, low[r]);
            high[r] = _mm256_fmadd_ps(x, weight_high, high[r]);
        }
    }
    for (int r = 0; r < Rows; r++) store_panel(out + r * outputs, low[r], high[r], bias, columns);
}

// One row waits for its two chains of sums; four chains keep memory busy.
template <class Words>
void float_row(const float* in, int64_t inputs, const uint16_t* panel, const float* bias, float* out,
               int64_t columns) {
    __m256 low[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    __m256 high[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int64_t k = 0; k + 1 < inputs; k += 2) {
        for (int i = 0; i < 2; i++) {
            __m256 weight_low, weight_high;
            Words::load(panel + (k + i) * kPanel, weight_low, weight_high);
            const __m256 x = _mm256_broadcast_ss(in + k + i);
            low[i] = _mm256_fmadd_ps(x, weight_low, low[i]);
            high[i] = _mm256_fmadd_ps(x, weight_high, high[i]);
        }
    }
    if (inputs % 2) {
        __m256 weight_low, weight_high;
        Words::load(panel + (inputs - 1) * kPanel, weight_low, weight_high);
        const __m256 x = _mm256_broadcast_ss(in + inputs - 1);
        low[0] = _mm256_fmadd_ps(x, weight_low, low[0]);
        high[0] = _mm256_fmadd_ps(x, weight_high, high[0]);
    }
    store_panel(out, _mm256_add_ps(low[0], low[1]), _mm256_add_ps(high[0], high[1]), bias, columns);
}

template <class Words>
void float_rows(int64_t rows, const float* in, int64_t inputs, const uint16_t* panel, const float* bias, float* out,
                int64_t outputs, int64_t columns) {
    switch (rows) {
        case 1: return float_row<Words>(in, inputs, panel, bias, out, columns);
        case 2: return float_tile<Words, 2>(in, inputs, panel, bias, out, outputs, columns);
        case 3: return float_tile<Words, 3>(in, inputs, panel, bias, out, outputs, columns);
        case 4: return float_tile<Words, 4>(in, inputs, panel, bias, out, outputs, columns);
        case 5: return float_tile<Words, 5>(in, inputs, panel, bias, out, outputs, columns);
        default: return float_tile<Words, 6>(in, inputs, panel, bias, out, outputs, columns);
    }
}

template <class Words>
void float_linear(const float* in, const uint16_t* packed, const float* bias, float* out, int64_t rows,
                  int64_t inputs, int64_t outputs) {
    const int64_t panels = panels_of(outputs), at_once = rows_at_once(inputs * 4);
#pragma omp parallel
    for (int64_t first = 0; first < rows; first += at_once) {
        const int64_t end = std::min(first + at_once, rows);
#pragma omp for schedule(static) nowait
        for (int64_t p = 0; p < panels; p++) {
            const int64_t column = p * kPanel, columns = std::min(kPanel, outputs - column);
            for (int64_t r = first; r < end; r += kTile) {
                float_rows<Words>(std::min(kTile, end - r), in + r * inputs, inputs, packed + p * kPanel * inputs,
                                  bias ? bias + column : nullptr, out + r * outputs + column, outputs, columns);
            }
        }
    }
}

// Weights have 8 bits. Inputs are 16-bit integers, as large as they may be without the sum of all products leaving
// 32 bits: 15 bits for a thousand inputs, 12 for eight thousand. So they lose next to nothing, at the same speed.
int64_t largest_input(int64_t inputs) { return std::min<int64_t>(INT16_MAX, INT32_MAX / (127 * inputs)); }

template <int Rows>
void int8_tile(const int16_t* in, const float* row_scales, int64_t inputs, const int8_t* panel, const float* scales,
               const float* bias, float* out, int64_t outputs, int64_t columns) {
    __m256i low[Rows], high[Rows];
    for (int r = 0; r < Rows; r++) low[r] = high[r] = _mm256_setzero_si256();
    for (int64_t k = 0; k < inputs; k += 2) {
        const auto* words = reinterpret_cast<const __m128i*>(panel + k * kPanel);
        const __m256i weight_low = _mm256_cvtepi8_epi16(_mm_loadu_si128(words));
        const __m256i weight_high = _mm256_cvtepi8_epi16(_mm_loadu_si128(words + 1));
        for (int r = 0; r < Rows; r++) {
            int32_t pair;
            std::memcpy(&pair, in + r * inputs + k, sizeof pair);
            const __m256i x = _mm256_set1_epi32(pair);
            low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(x, weight_low));
            high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(x, weight_high));
        }
    }
    const __m256 scales_low = _mm256_loadu_ps(scales), scales_high = _mm256_loadu_ps(scales + kLanes);
    for (int r = 0; r < Rows; r++) {
        const __m256 scale = _mm256_set1_ps(row_scales[r]);
        store_panel(out + r * outputs,
                    _mm256_mul_ps(_mm256_cvtepi32_ps(low[r]), _mm256_mul_ps(scale, scales_low)),
                    _mm256_mul_ps(_mm256_cvtepi32_ps(high[r]), _mm256_mul_ps(scale, scales_high)), bias, columns);
    }
}

void int8_rows(int64_t rows, const int16_t* in, const float* row_scales, int64_t inputs, const int8_t* panel,
               const float* scales, const float* bias, float* out, int64_t outputs, int64_t columns) {
    switch (rows) {
        case 1: return int8_tile<1>(in, row_scales, inputs, panel, scales, bias, out, outputs, columns);
        case 2: return int8_tile<2>(in, row_scales, inputs, panel, scales, bias, out, outputs, columns);
        case 3: return int8_tile<3>(in, row_scales, inputs, panel, scales, bias, out, outputs, columns);
        case 4: return int8_tile<4>(in, row_scales, inputs, panel, scales, bias, out, outputs, columns);
        case 5: return int8_tile<5>(in, row_scales, inputs, panel, scales, bias, out, outputs, columns);
        default: return int8_tile<6>(in, row_scales, inputs, panel, scales, bias, out, outputs, columns);
    }
}

float largest(const float* numbers, int64_t count) {
    float found = 0.0f;
    for (int64_t i = 0; i < count; i++) found = std::max(found, std::fabs(numbers[i]));
    return found;
}

void quantize_row(const float* in, int64_t inputs, int16_t* quantized, float& scale) {
    scale = largest(in, inputs) / static_cast<float>(largest_input(inputs));
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    for (int64_t k = 0; k < inputs; k++) quantized[k] = static_cast<int16_t>(std::nearbyintf(in[k] * inverse));
    if (inputs % 2) quantized[inputs] = 0;
}

}  // namespace
}  // namespace inferflux

using namespace inferflux;

void inferflux_pack_words(const uint16_t* weight, int64_t outputs, int64_t inputs, uint16_t* packed) {
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < panels_of(outputs); p++) {
        uint16_t* panel = packed + p * kPanel * inputs;
        for (int64_t i = 0; i < kPanel; i++) {
            const int64_t output = p * kPanel + i;
            for (int64_t k = 0; k < inputs; k++) {
                panel[k * kPanel + i] = output < outputs ? weight[output * inputs + k] : 0;
            }
        }
    }
}

// Symmetric, one scale for each output.
void inferflux_pack_int8(const float* weight, int64_t outputs, int64_t inputs, int8_t* packed, float* scales) {
    const int64_t even = inputs + inputs % 2;
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < panels_of(outputs); p++) {
        int8_t* panel = packed + p * kPanel * even;
        std::memset(panel, 0, kPanel * even);
        for (int64_t i = 0; i < kPanel; i++) {
            const int64_t output = p * kPanel + i;
            scales[output] = 0.0f;
            if (output >= outputs) continue;
            const float* row = weight + output * inputs;
            const float scale = largest(row, inputs) / 127.0f;
            const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
            scales[output] = scale;
            for (int64_t k = 0; k < inputs; k++) {
                panel[(k / 2 * kPanel + i) * 2 + k % 2] = static_cast<int8_t>(std::nearbyintf(row[k] * inverse));
            }
        }
    }
}

void inferflux_linear_bf16(const float* in, const uint16_t* packed, const float* bias, float* out, int64_t rows,
                           int64_t inputs, int64_t outputs) {
    float_linear<BFloat16>(in, packed, bias, out, rows, inputs, outputs);
}

void inferflux_linear_f16(const float* in, const uint16_t* packed, const float* bias, float* out, int64_t rows,
                          int64_t inputs, int64_t outputs) {
    float_linear<Half>(in, packed, bias, out, rows, inputs, outputs);
}

void inferflux_linear_int8(const float* in, const int8_t* packed, const float* scales, const float* bias, float* out,
                           int16_t* quantized, float* row_scales, int64_t rows, int64_t inputs, int64_t outputs) {
    const int64_t even = inputs + inputs % 2;
    const int64_t panels = panels_of(outputs), at_once = rows_at_once(even * 2);
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) quantize_row(in + r * inputs, inputs, quantized + r * even, row_scales[r]);
        for (int64_t first = 0; first < rows; first += at_once) {
            const int64_t end = std::min(first + at_once, rows);
#pragma omp for schedule(static) nowait
            for (int64_t p = 0; p < panels; p++) {
                const int64_t column = p * kPanel, columns = std::min(kPanel, outputs - column);
                for (int64_t r = first; r < end; r += kTile) {
                    int8_rows(std::min(kTile, end - r), quantized + r * even, row_scales + r, even,
                              packed + p * kPanel * even, scales + column, bias ? bias + column : nullptr,
                              out + r * outputs + column, outputs, columns);
                }
            }
        }
    }
}
