// The interface, for ctypes. All sizes are int64; floats are 32 bits unless a name says otherwise. Callers
// check shapes; nothing here throws or allocates beyond the stack and per-call scratch.
//
// The sources are compiled once for each instruction set. How weights are packed differs between them, and is
// known to nobody else.
#pragma once

#include <cstdint>

extern "C" {

enum InferfluxPrecision : int64_t { kBFloat16 = 0, kHalf = 1, kInt8 = 2 };

// A weight [outputs, inputs] in packed order; `scales` [outputs rounded up to a panel] only with 8 bits, `bias`
// [outputs] or null.
struct InferfluxLinear {
    int64_t precision, inputs, outputs;
    uint8_t* packed;
    float* scales;
    const float* bias;
};

// Outputs in a panel, which their number is rounded up to.
int64_t inferflux_panel();
// What `packed` must hold.
int64_t inferflux_packed_bytes(int64_t precision, int64_t inputs, int64_t outputs);
// What `scratch` must hold.
int64_t inferflux_scratch_bytes(const InferfluxLinear* linear, int64_t rows);
// Fills `packed` and `scales` from 16-bit words of that type, or for 8 bits from floats.
void inferflux_pack(const InferfluxLinear* linear, const void* weight);
// out [rows, outputs] = in [rows, inputs] * weight' + bias.
void inferflux_linear(const InferfluxLinear* linear, const float* in, float* out, void* scratch, int64_t rows);

// out = in / rms(in) * weight; with a residual, it becomes residual + in first, and out is its norm.
void inferflux_rms_norm(const float* in, const float* weight, float* out, int64_t rows, int64_t width, float epsilon);
void inferflux_add_rms_norm(float* residual, const float* in, const float* weight, float* out, int64_t rows,
                            int64_t width, float epsilon);
// [rows, 2 * inner] to [rows, inner]; the activation is SiLU, or GELU by tanh.
void inferflux_gated_silu(const float* in, float* out, int64_t rows, int64_t inner);
void inferflux_gated_gelu(const float* in, float* out, int64_t rows, int64_t inner);

// Cache blocks: keys [blocks, heads, head, 64] (tokens side by side), values [blocks, heads, 64, head], in half.
// Strides are between rows, in floats.
void inferflux_rotate_and_store(float* queries, int64_t query_stride, float* keys, int64_t key_stride,
                                const float* values, int64_t value_stride, const float* table,
                                const int64_t* positions, const int64_t* cells, uint16_t* key_cache,
                                uint16_t* value_cache, int64_t rows, int64_t heads, int64_t heads_kv, int64_t head,
                                int64_t rotated);
// `window` 0 is none. `out` is [rows, heads, head].
void inferflux_attention(const float* queries, int64_t query_stride, const uint16_t* key_cache,
                         const uint16_t* value_cache, const int32_t* starts, const int32_t* contexts,
                         const int32_t* tables, int64_t table_width, float* out, int64_t sequences, int64_t heads,
                         int64_t heads_kv, int64_t head, float scale, int64_t window);
}
