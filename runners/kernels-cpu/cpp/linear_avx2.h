// Linear layers for AVX2.
#pragma once

#include "linear_float.h"
#include "linear_int8.h"

namespace inferflux {

struct BFloat16Words {
    static Floats load(const uint16_t* from) {
        const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
    }
};

using BFloat16Kernel = FloatKernel<BFloat16Words>;

struct Int8Kernel : Int8Rows {
    static constexpr int kTile = 6;

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
            const Floats scale = fill(scale_of(rows + r * stride, inputs));
            out.put(r, multiply(_mm256_cvtepi32_ps(low[r]), multiply(scale, load(scales))),
                    multiply(_mm256_cvtepi32_ps(high[r]), multiply(scale, load(scales + kLanes))));
        }
    }
};

}  // namespace inferflux
