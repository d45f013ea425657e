// Linear layers for AVX-512 with products of 8-bit integers (VNNI) and of bfloat16.
#pragma once

#include "linear_float.h"
#include "linear_int8.h"

namespace inferflux {

// Two inputs at once; what they are multiplied with is rounded to bfloat16 too.
struct BFloat16Kernel {
    using Number = uint16_t;
    static constexpr int kTile = 12;

    static int64_t row_bytes(int64_t inputs) { return round_up(inputs, 2) * 2; }
    static int64_t panel_bytes(int64_t inputs) { return round_up(inputs, 2) * kPanel * 2; }

    static void prepare(const float* in, int64_t inputs, uint8_t* row) {
        auto* words = reinterpret_cast<uint16_t*>(row);
        for (int64_t k = 0; k < inputs; k += kLanes) {
            const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(load(in + k, lanes(0, inputs - k)));
            _mm256_mask_storeu_epi16(words + k, lanes(0, round_up(inputs, 2) - k), rounded);
        }
    }

    static void pack(const Source<Number>& source, uint8_t* panel, float*) {
        auto* words = reinterpret_cast<uint16_t*>(panel);
        for (int64_t k = 0; k < source.inputs; k += 2) {
            for (int64_t i = 0; i < kPanel; i++) {
                *words++ = source.at(i, k);
                *words++ = source.at(i, k + 1);
            }
        }
    }

    template <int Rows>
    static void tile(const uint8_t* rows, int64_t stride, int64_t inputs, const uint8_t* panel, const float*,
                     const Output& out) {
        Floats low[Rows], high[Rows];
        for (int r = 0; r < Rows; r++) low[r] = high[r] = zero();
        for (int64_t k = 0; k < inputs; k += 2) {
            const __m512i weight_low = _mm512_loadu_si512(panel + k * kPanel * 2);
            const __m512i weight_high = _mm512_loadu_si512(panel + k * kPanel * 2 + 64);
            for (int r = 0; r < Rows; r++) {
                int32_t pair;
                std::memcpy(&pair, rows + r * stride + k * 2, sizeof pair);
                const __m512i x = _mm512_set1_epi32(pair);
                low[r] = _mm512_dpbf16_ps(low[r], (__m512bh)weight_low, (__m512bh)x);
                high[r] = _mm512_dpbf16_ps(high[r], (__m512bh)weight_high, (__m512bh)x);
            }
        }
        for (int r = 0; r < Rows; r++) out.put(r, low[r], high[r]);
    }
};

// Pairs of 16-bit products: twice the instructions of 8-bit ones, but SmolLM2-135M's perplexity would grow by more than
// 1 % if inputs had 8 bits, even with a scale for every 32 of them.
struct Int8Kernel : Int8Rows {
    static constexpr int kTile = 12;

    // sums += pairs * pairs. GCC 12 copies the sums around its own intrinsic.
    static void add_products(__m512i& sums, __m512i a, __m512i b) {
        asm("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(a), "v"(b));
    }

    template <int Rows>
    static void tile(const uint8_t* rows, int64_t stride, int64_t inputs, const uint8_t* panel, const float* scales,
                     const Output& out) {
        __m512i low[Rows], high[Rows];
        for (int r = 0; r < Rows; r++) low[r] = high[r] = _mm512_setzero_si512();
        for (int64_t k = 0; k < inputs; k += 2) {
            const auto* words = reinterpret_cast<const __m256i*>(panel + k * kPanel);
            const __m512i weight_low = _mm512_cvtepi8_epi16(_mm256_loadu_si256(words));
            const __m512i weight_high = _mm512_cvtepi8_epi16(_mm256_loadu_si256(words + 1));
            for (int r = 0; r < Rows; r++) {
                int32_t pair;
                std::memcpy(&pair, rows + r * stride + k * 2, sizeof pair);
                const __m512i x = _mm512_set1_epi32(pair);
                add_products(low[r], weight_low, x);
                add_products(high[r], weight_high, x);
            }
        }
        for (int r = 0; r < Rows; r++) {
            const Floats scale = fill(scale_of(rows + r * stride, inputs));
            out.put(r, multiply(_mm512_cvtepi32_ps(low[r]), multiply(scale, load(scales))),
                    multiply(_mm512_cvtepi32_ps(high[r]), multiply(scale, load(scales + kLanes))));
        }
    }
};

}  // namespace inferflux
