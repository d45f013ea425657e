// Weights of 8 bits, the same for every instruction set.
#pragma once

#include "panels.h"

namespace inferflux {

// Inputs are 16-bit integers, as large as they may be without the sum of all products leaving 32 bits: 15 bits for a
// thousand inputs, 12 for eight thousand. So they lose next to nothing, at the speed of 8 bits.
struct Int8Rows {
    using Number = float;

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

    static float scale_of(const uint8_t* row, int64_t inputs) {
        float scale;
        std::memcpy(&scale, row + round_up(inputs, 2) * 2, sizeof scale);
        return scale;
    }
};

}  // namespace inferflux
