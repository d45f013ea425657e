// What all kernels of linear layers have in common. A weight is cut into panels of as many outputs as two registers
// hold; within a panel, the numbers of an input (or of the few inputs that an instruction takes at once) lie side by
// side, so that a panel is read front to back while the sums of several rows stay in registers. Nothing is summed
// across lanes.
//
// A kernel has
//   kTile                      rows whose sums fit into registers
//   row_bytes(inputs)          what a row becomes before it is multiplied; 0 if it is taken as it is
//   prepare(in, inputs, row)   makes that
//   panel_bytes(inputs)
//   pack(...)                  fills a panel
//   tile<Rows>(...)            multiplies rows with a panel
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels.h"
#include "sizes.h"
#include "vector.h"

namespace inferflux {

constexpr int64_t kPanel = 2 * kLanes;
constexpr int64_t kCacheBytes = 256 * 1024;

constexpr int64_t parts_of(int64_t whole, int64_t part) { return (whole + part - 1) / part; }
constexpr int64_t round_up(int64_t number, int64_t step) { return parts_of(number, step) * step; }

// Where the sums of some rows and one panel go.
struct Output {
    float* to;
    int64_t stride;
    const float* bias;
    int64_t columns;  // at most a panel

    void put(int64_t row, Floats low, Floats high) const {
        float* at = to + row * stride;
        if (columns >= kPanel) {
            if (bias) low = add(low, load(bias)), high = add(high, load(bias + kLanes));
            store(at, low);
            store(at + kLanes, high);
            return;
        }
        const Mask first = lanes(0, columns), second = lanes(0, columns - kLanes);
        if (bias) low = add(low, load(bias, first)), high = add(high, load(bias + kLanes, second));
        store(at, low, first);
        store(at + kLanes, high, second);
    }
};

// The outputs that a panel is made of, in a weight [outputs, inputs].
template <class Number>
struct Source {
    const Number* weight;
    int64_t inputs, columns;

    Number at(int64_t column, int64_t input) const {
        return column < columns && input < inputs ? weight[column * inputs + input] : Number{};
    }
};

inline float largest(const float* numbers, int64_t count) {
    Floats found = zero();
    for (int64_t i = 0; i < count; i += kLanes) {
        found = larger(found, magnitude(load(numbers + i, lanes(0, count - i))));
    }
    return max(found);
}

// Symmetric, by output: the scales, and what a number becomes.
struct Quantizer {
    float scales[kPanel], inverse[kPanel];

    Quantizer(const Source<float>& source) {
        for (int64_t i = 0; i < kPanel; i++) {
            const float most = i < source.columns ? largest(source.weight + i * source.inputs, source.inputs) : 0.0f;
            scales[i] = most / 127.0f;
            inverse[i] = most > 0.0f ? 127.0f / most : 0.0f;
        }
    }

    int32_t operator()(int64_t column, float number) const {
        return static_cast<int32_t>(std::nearbyintf(number * inverse[column]));
    }
};

// Calls a kernel's `tile` for a number of rows that is known only now.
template <class Kernel, int Most, class... Rest>
void multiply_rows(int64_t rows, const Rest&... rest) {
    if constexpr (Most > 1) {
        if (rows < Most) return multiply_rows<Kernel, Most - 1>(rows, rest...);
    }
    Kernel::template tile<Most>(rest...);
}

template <class Kernel>
void multiply(const InferfluxLinear& linear, const float* in, float* out, uint8_t* scratch, int64_t rows) {
    const int64_t inputs = linear.inputs, outputs = linear.outputs;
    const int64_t prepared = Kernel::row_bytes(inputs);
    const int64_t stride = prepared ? prepared : inputs * static_cast<int64_t>(sizeof(float));
    const uint8_t* states = prepared ? scratch : reinterpret_cast<const uint8_t*>(in);
    // Rows that stay in the second cache while the panels pass by.
    const int64_t at_once = std::max<int64_t>(kCacheBytes / stride / Kernel::kTile, 1) * Kernel::kTile;
    const int64_t panels = parts_of(outputs, kPanel), panel_bytes = Kernel::panel_bytes(inputs);
    if (prepared) {
#pragma omp parallel for schedule(static) if (rows >= kFewRows)
        for (int64_t r = 0; r < rows; r++) Kernel::prepare(in + r * inputs, inputs, scratch + r * stride);
    }
#pragma omp parallel
    {
        for (int64_t first = 0; first < rows; first += at_once) {
            const int64_t end = std::min(first + at_once, rows);
#pragma omp for schedule(static) nowait
            for (int64_t p = 0; p < panels; p++) {
                const int64_t column = p * kPanel;
                const float* scales = linear.scales ? linear.scales + column : nullptr;
                for (int64_t r = first; r < end; r += Kernel::kTile) {
                    const Output output{out + r * outputs + column, outputs,
                                        linear.bias ? linear.bias + column : nullptr, outputs - column};
                    multiply_rows<Kernel, Kernel::kTile>(end - r, states + r * stride, stride, inputs,
                                                         linear.packed + p * panel_bytes, scales, output);
                }
            }
        }
    }
}

template <class Kernel, class Number>
void pack(const InferfluxLinear& linear, const Number* weight) {
    const int64_t panel_bytes = Kernel::panel_bytes(linear.inputs);
#pragma omp parallel for schedule(static)
    for (int64_t column = 0; column < linear.outputs; column += kPanel) {
        const Source<Number> source{weight + column * linear.inputs, linear.inputs,
                                    std::min(kPanel, linear.outputs - column)};
        Kernel::pack(source, linear.packed + column / kPanel * panel_bytes,
                     linear.scales ? linear.scales + column : nullptr);
    }
}

}  // namespace inferflux
