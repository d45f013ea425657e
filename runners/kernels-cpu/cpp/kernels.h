// The interface, for ctypes. All sizes are int64; floats are 32 bits unless a name says otherwise. Callers
// check shapes; nothing here throws or allocates beyond the stack and per-call scratch.
#pragma once

#include <cstdint>

extern "C" {

// Weights [outputs, inputs] in panels of 16 outputs, see linear.cpp. `packed` has ceil(outputs / 16) * 16 columns of
// 2 bytes (half, bfloat16) or 1 byte (int8; then inputs are rounded up to an even number).
void inferflux_pack_words(const uint16_t* weight, int64_t outputs, int64_t inputs, uint16_t* packed);
void inferflux_pack_int8(const float* weight, int64_t outputs, int64_t inputs, int8_t* packed, float* scales);

// out [rows, outputs] = in [rows, inputs] * weight' + bias (or null).
void inferflux_linear_bf16(const float* in, const uint16_t* packed, const float* bias, float* out, int64_t rows,
                           int64_t inputs, int64_t outputs);
void inferflux_linear_f16(const float* in, const uint16_t* packed, const float* bias, float* out, int64_t rows,
                          int64_t inputs, int64_t outputs);
// `quantized` [rows, inputs rounded up to even] and `row_scales` [rows] are scratch.
void inferflux_linear_int8(const float* in, const int8_t* packed, const float* scales, const float* bias, float* out,
                           int16_t* quantized, float* row_scales, int64_t rows, int64_t inputs, int64_t outputs);

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
