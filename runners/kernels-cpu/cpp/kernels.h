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
// Each head of each row, in place; rows are `stride` floats apart.
void inferflux_head_norm(float* heads, int64_t stride, const float* weight, int64_t rows, int64_t number, int64_t head,
                         float epsilon);
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
// Keys and values [rows, heads, head] of cells, out of the cache and into it.
void inferflux_read_cells(const uint16_t* key_cache, const uint16_t* value_cache, const int64_t* cells, uint16_t* keys,
                          uint16_t* values, int64_t rows, int64_t heads, int64_t head);
void inferflux_write_cells(uint16_t* key_cache, uint16_t* value_cache, const int64_t* cells, const uint16_t* keys,
                           const uint16_t* values, int64_t rows, int64_t heads, int64_t head);
// `window` 0 is none. `out` is [rows, heads, head].
void inferflux_attention(const float* queries, int64_t query_stride, const uint16_t* key_cache,
                         const uint16_t* value_cache, const int32_t* starts, const int32_t* contexts,
                         const int32_t* tables, int64_t table_width, float* out, int64_t sequences, int64_t heads,
                         int64_t heads_kv, int64_t head, float scale, int64_t window);

// What all layers of a decoder share. `gelu` chooses the activation.
struct InferfluxDecoder {
    int64_t layers, width, inner, heads, heads_kv, head, gelu;
    float epsilon, attention_scale;
};
// One of them. A norm that a family does not have is null.
struct InferfluxLayer {
    const InferfluxLinear *qkv, *out, *gate_up, *down;
    const float *norm_in, *norm_queries, *norm_keys, *norm_attention, *norm_mlp, *norm_out;
    const float* table;
    int64_t rotated, window;
    uint16_t *keys, *values;
};
// The rows of a pass, as `inferflux_rotate_and_store` and `inferflux_attention` take them.
struct InferfluxRows {
    int64_t rows, sequences, table_width;
    const int32_t *starts, *contexts, *tables;
    const int64_t *positions, *cells;
};

// What `scratch` must hold for all layers.
int64_t inferflux_layers_scratch_bytes(const InferfluxDecoder* decoder, const InferfluxLayer* layers, int64_t rows);
// Runs all layers: `residual` [rows, width] is changed, `out` [rows, width] is its norm by `norm` after the last.
void inferflux_layers(const InferfluxDecoder* decoder, const InferfluxLayer* layers, const float* norm,
                      const InferfluxRows* rows, float* residual, float* out, void* scratch);
}
