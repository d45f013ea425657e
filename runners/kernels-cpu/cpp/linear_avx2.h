// Linear layers for AVX2.
#pragma once

#include "linear_float.h"

namespace inferflux {

struct BFloat16Words {
    static Floats load(const uint16_t* from) {
        const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
    }
};

using BFloat16Kernel = FloatKernel<BFloat16Words>;

// Inputs are 16-bit integers, as large as they may be without the sum of all products leaving 32 bits: 15 bits for a
// thousand inputs, 12 for eight thousand. So they lose next to nothing, at the speed of 8 bits.
struct Int8Kernel {
    using Number = float;
    static constexpr int kTile = 6;

    // The integers of a row, and its scale behind them.
    static int64_t row_bytes(int64_t inputs) { return round_up(inputs, 2) * 2 + 4; }
    static int64_t panel_bytes(int64_t inputs) { return round_up(inputs, 2) * kPanel; }

    static void prepare(const float* in, int64_t inputs, uint8_t* row) {
        auto* quantized = reinterpret_cast<int16_t*>(row);
        const int64_t most = std::min<int64_t>(INT16_MAX, INT32_MAX / (127 * inputs));
        const float scale = largest(in, inputs) / static_cast<float>(most);
        const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
        for (int64_t k = 0; k < inputs; k++) quantized[k] = static_cast<int16_t>(std::nearbyintf(in[k] * inverse));
        if (inputs % 2) quantized[inputs] = 0;
        std::memcpy(quantized + round_up(inputs, 2), &scale, sizeof scale);
    }

    static void pack(const Source<Number>& source, uint8_t* panel, float* scales) {
        const Quantizer quantize(source);
        std::copy_n(quantize.scales, kPanel, scales);
        for (int64_t k = 0; k < source.inputs; k += 2) {
            for (int64_t i = 0; i < kPanel; i++) {
                for (int64_t j = 0; j < 2; j++) *panel++ = static_cast<uint8_t>(quantize(i, source.at(i, k + j)));
            }
        }
    }

    template <int Rows>
    static void tile(const uint8_t* rows, int64_t stride, int64_t inputs, const uint8_t* panel, const float* scales,
                     const Output& out) {
        __m256i low[Rows], high[Rows];
        for (int r = 0; r < Rows; r++) low[r] = high[r] = _mm256_setzero_si256();
        for (int64_t k = 0; k < inputs; k += 2) {
            const auto* words = reinterpret_cast<const __m128i*>(panel + k * kPanel);
            const __m256i weight_low = _mm256_cvtepi8_epi16(_mm_loadu_si128(words));
            const __m256i weight_high = _mm256_cvtepi8_epi16(_mm_loadu_si128(words + 1));
            for (int r = 0; r < Rows; r++) {
                int32_t pair;
                std::memcpy(&pair, rows + r * stride + k * 2, sizeof pair);
                const __m256i x = _mm256_set1_epi32(pair);
                low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(x, weight_low));
                high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(x, weight_high));
            }
        }
        for (int r = 0; r < Rows; r++) {
            float row_scale;
            std::memcpy(&row_scale, rows + r * stride + round_up(inputs, 2) * 2, sizeof row_scale);
            const Floats scale = fill(row_scale);
            out.put(r, multiply(_mm256_cvtepi32_ps(low[r]), multiply(scale, load(scales))),
                    multiply(_mm256_cvtepi32_ps(high[r]), multiply(scale, load(scales + kLanes))));
        }
    }
};

}  // namespace inferflux
