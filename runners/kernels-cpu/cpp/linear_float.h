// Weights of 16 bits that become floats as they are read.
#pragma once

#include "panels.h"

namespace inferflux {

struct HalfWords {
    static Floats load(const uint16_t* from) { return load_half(from); }
};

template <class Words>
struct FloatKernel {
    using Number = uint16_t;
    static constexpr int kTile = kLanes == 16 ? 12 : 6;

    static int64_t row_bytes(int64_t) { return 0; }
    static void prepare(const float*, int64_t, uint8_t*) {}
    static int64_t panel_bytes(int64_t inputs) { return inputs * kPanel * 2; }

    static void pack(const Source<Number>& source, uint8_t* panel, float*) {
        auto* words = reinterpret_cast<uint16_t*>(panel);
        for (int64_t k = 0; k < source.inputs; k++) {
            for (int64_t i = 0; i < kPanel; i++) *words++ = source.at(i, k);
        }
    }

    template <int Rows>
    static void tile(const uint8_t* rows, int64_t stride, int64_t inputs, const uint8_t* panel, const float*,
                     const Output& out) {
        // Few rows would wait for their own sums: they get two of each.
        constexpr int kChains = Rows < 3 ? 2 : 1;
        const auto* words = reinterpret_cast<const uint16_t*>(panel);
        Floats low[kChains][Rows], high[kChains][Rows];
        for (int c = 0; c < kChains; c++) {
            for (int r = 0; r < Rows; r++) low[c][r] = high[c][r] = zero();
        }
        const auto step = [&](int c, int64_t k) {
            const Floats weight_low = Words::load(words + k * kPanel);
            const Floats weight_high = Words::load(words + k * kPanel + kLanes);
            for (int r = 0; r < Rows; r++) {
                const Floats x = fill(reinterpret_cast<const float*>(rows + r * stride)[k]);
                low[c][r] = fused(x, weight_low, low[c][r]);
                high[c][r] = fused(x, weight_high, high[c][r]);
            }
        };
        int64_t k = 0;
        for (; k + kChains <= inputs; k += kChains) {
            for (int c = 0; c < kChains; c++) step(c, k + c);
        }
        if (k < inputs) step(0, k);
        for (int r = 0; r < Rows; r++) {
            if constexpr (kChains == 2) {
                out.put(r, add(low[0][r], low[1][r]), add(high[0][r], high[1][r]));
            } else {
                out.put(r, low[0][r], high[0][r]);
            }
        }
    }
};

}  // namespace inferflux
