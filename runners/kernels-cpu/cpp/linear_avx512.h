// Linear layers for AVX-512 with products of 8-bit integers (VNNI) and of bfloat16.
#pragma once

#include "linear_float.h"

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

// Four inputs at once. The instruction takes numbers without a sign on one side: weights are stored with 128 added,
// which the sums of the inputs take away again. Inputs are quantized in groups, each with a scale of its own, so that a
// large number, as models have them, coarsens none but its neighbours.
struct Int8Kernel {
    using Number = float;
    static constexpr int kTile = 12;
    static constexpr int64_t kGroup = 32;

    // The integers of a row, and behind them a scale and a first sum for each group.
    static int64_t row_bytes(int64_t inputs) { return round_up(inputs, 4) + parts_of(inputs, kGroup) * 8; }
    static int64_t panel_bytes(int64_t inputs) { return round_up(inputs, 4) * kPanel; }

    static void prepare(const float* in, int64_t inputs, uint8_t* row) {
        const int64_t groups = parts_of(inputs, kGroup);
        auto* scales = reinterpret_cast<float*>(row + round_up(inputs, 4));
        auto* sums = reinterpret_cast<int32_t*>(scales + groups);
        for (int64_t g = 0; g < groups; g++) {
            const int64_t begin = g * kGroup, end = std::min(begin + kGroup, inputs);
            const float most = largest(in + begin, end - begin);
            const Floats inverse = fill(most > 0.0f ? 127.0f / most : 0.0f);
            __m512i sum = _mm512_setzero_si512();
            for (int64_t k = begin; k < end; k += kLanes) {
                const __m512i x = _mm512_cvtps_epi32(multiply(load(in + k, lanes(0, end - k)), inverse));
                sum = _mm512_add_epi32(sum, x);
                _mm512_mask_cvtepi32_storeu_epi8(row + k, lanes(0, round_up(end, 4) - k), x);
            }
            scales[g] = most / 127.0f;
            sums[g] = -128 * _mm512_reduce_add_epi32(sum);
        }
    }

    static void pack(const Source<Number>& source, uint8_t* panel, float* scales) {
        const Quantizer quantize(source);
        std::copy_n(quantize.scales, kPanel, scales);
        for (int64_t k = 0; k < source.inputs; k += 4) {
            for (int64_t i = 0; i < kPanel; i++) {
                for (int64_t j = 0; j < 4; j++) *panel++ = static_cast<uint8_t>(quantize(i, source.at(i, k + j)) + 128);
            }
        }
    }

    template <int Rows>
    static void tile(const uint8_t* rows, int64_t stride, int64_t inputs, const uint8_t* panel, const float* scales,
                     const Output& out) {
        const int64_t width = round_up(inputs, 4), groups = parts_of(inputs, kGroup);
        float sums[Rows * kPanel] = {};
        for (int64_t g = 0; g < groups; g++) {
            const int64_t begin = g * kGroup, end = std::min(begin + kGroup, width);
            add_group<Rows>(rows + begin, rows + width + g * 4, groups * 4, stride, panel + begin * kPanel,
                            end - begin, sums);
        }
        for (int r = 0; r < Rows; r++) {
            out.put(r, multiply(load(sums + r * kPanel), load(scales)),
                    multiply(load(sums + r * kPanel + kLanes), load(scales + kLanes)));
        }
    }

    // sums += unsigned * signed. GCC 12 copies the sums around its own intrinsic.
    static void add_products(__m512i& sums, __m512i unsigned_bytes, __m512i signed_bytes) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(unsigned_bytes), "v"(signed_bytes));
    }

    // A function of its own, or the compiler would keep these sums in memory and those of the groups in registers.
    template <int Rows>
    __attribute__((noinline)) static void add_group(const uint8_t* rows, const uint8_t* row_scales, int64_t to_firsts,
                                                    int64_t stride, const uint8_t* panel, int64_t count, float* sums) {
        __m512i low[Rows], high[Rows];
#pragma GCC unroll 12
        for (int r = 0; r < Rows; r++) {
            int32_t first;
            std::memcpy(&first, row_scales + to_firsts + r * stride, sizeof first);
            low[r] = high[r] = _mm512_set1_epi32(first);
        }
        for (int64_t k = 0; k < count; k += 4) {
            const __m512i weight_low = _mm512_loadu_si512(panel + k * kPanel);
            const __m512i weight_high = _mm512_loadu_si512(panel + k * kPanel + 64);
#pragma GCC unroll 12
            for (int r = 0; r < Rows; r++) {
                int32_t four;
                std::memcpy(&four, rows + r * stride + k, sizeof four);
                const __m512i x = _mm512_set1_epi32(four);
                add_products(low[r], weight_low, x);
                add_products(high[r], weight_high, x);
            }
        }
#pragma GCC unroll 12
        for (int r = 0; r < Rows; r++) {
            float row_scale;
            std::memcpy(&row_scale, row_scales + r * stride, sizeof row_scale);
            float *to_low = sums + r * kPanel, *to_high = to_low + kLanes;
            store(to_low, fused(_mm512_cvtepi32_ps(low[r]), fill(row_scale), load(to_low)));
            store(to_high, fused(_mm512_cvtepi32_ps(high[r]), fill(row_scale), load(to_high)));
        }
    }
};

}  // namespace inferflux
