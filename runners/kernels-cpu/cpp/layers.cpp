// All layers of a decoder in one call: the kernels of the other files in their order, with no way back to the caller
// between them.
#include <algorithm>

#include "kernels.h"

namespace {

constexpr int64_t kAlignment = 64;

// Where the results of one kernel wait for the next; `mixed` and `inner` are never needed together, nor are the
// results of the two joined linears.
struct Scratch {
    float *state, *joined, *mixed, *added;
    uint8_t* prepared;  // rows, as linears want them
    int64_t bytes = 0;

    Scratch(const InferfluxDecoder& decoder, const InferfluxLayer* layers, int64_t rows, uint8_t* begin) {
        const int64_t attention = decoder.heads * decoder.head;
        const int64_t qkv = attention + 2 * decoder.heads_kv * decoder.head;
        int64_t most = 0;
        for (int64_t i = 0; i < decoder.layers; i++) {
            for (const auto* linear : {layers[i].qkv, layers[i].out, layers[i].gate_up, layers[i].down}) {
                most = std::max(most, inferflux_scratch_bytes(linear, rows));
            }
        }
        state = floats(begin, rows * decoder.width);
        joined = floats(begin, rows * std::max(qkv, 2 * decoder.inner));
        mixed = floats(begin, rows * std::max(attention, decoder.inner));
        added = floats(begin, rows * decoder.width);
        prepared = take(begin, most);
    }

private:
    uint8_t* take(uint8_t* begin, int64_t size) {
        uint8_t* taken = begin + bytes;
        bytes += (size + kAlignment - 1) / kAlignment * kAlignment;
        return taken;
    }

    float* floats(uint8_t* begin, int64_t number) {
        return reinterpret_cast<float*>(take(begin, number * static_cast<int64_t>(sizeof(float))));
    }
};

void attention(const InferfluxDecoder& decoder, const InferfluxLayer& layer, const InferfluxRows& rows,
               const Scratch& scratch) {
    const int64_t heads = decoder.heads, heads_kv = decoder.heads_kv, head = decoder.head;
    const int64_t stride = (heads + 2 * heads_kv) * head;
    float* queries = scratch.joined;
    float* keys = queries + heads * head;
    const float* values = keys + heads_kv * head;
    inferflux_linear(layer.qkv, scratch.state, scratch.joined, scratch.prepared, rows.rows);
    if (layer.norm_queries != nullptr) {
        inferflux_head_norm(queries, stride, layer.norm_queries, rows.rows, heads, head, decoder.epsilon);
        inferflux_head_norm(keys, stride, layer.norm_keys, rows.rows, heads_kv, head, decoder.epsilon);
    }
    inferflux_rotate_and_store(queries, stride, keys, stride, values, stride, layer.table, rows.positions, rows.cells,
                               layer.keys, layer.values, rows.rows, heads, heads_kv, head, layer.rotated);
    inferflux_attention(queries, stride, layer.keys, layer.values, rows.starts, rows.contexts, rows.tables,
                        rows.table_width, scratch.mixed, rows.sequences, heads, heads_kv, head,
                        decoder.attention_scale, layer.window);
    inferflux_linear(layer.out, scratch.mixed, scratch.added, scratch.prepared, rows.rows);
    if (layer.norm_attention != nullptr) {
        inferflux_rms_norm(scratch.added, layer.norm_attention, scratch.added, rows.rows, decoder.width,
                           decoder.epsilon);
    }
}

void feed_forward(const InferfluxDecoder& decoder, const InferfluxLayer& layer, int64_t rows, const Scratch& scratch) {
    const auto gated = decoder.gelu ? inferflux_gated_gelu : inferflux_gated_silu;
    inferflux_linear(layer.gate_up, scratch.state, scratch.joined, scratch.prepared, rows);
    gated(scratch.joined, scratch.mixed, rows, decoder.inner);
    inferflux_linear(layer.down, scratch.mixed, scratch.added, scratch.prepared, rows);
    if (layer.norm_out != nullptr) {
        inferflux_rms_norm(scratch.added, layer.norm_out, scratch.added, rows, decoder.width, decoder.epsilon);
    }
}

}  // namespace

int64_t inferflux_layers_scratch_bytes(const InferfluxDecoder* decoder, const InferfluxLayer* layers, int64_t rows) {
    return Scratch(*decoder, layers, rows, nullptr).bytes;
}

void inferflux_layers(const InferfluxDecoder* decoder, const InferfluxLayer* layers, const float* norm,
                      const InferfluxRows* rows, float* residual, float* out, void* scratch) {
    const int64_t count = rows->rows, width = decoder->width;
    const Scratch buffers(*decoder, layers, count, static_cast<uint8_t*>(scratch));
    inferflux_rms_norm(residual, layers[0].norm_in, buffers.state, count, width, decoder->epsilon);
    for (int64_t i = 0; i < decoder->layers; i++) {
        const InferfluxLayer& layer = layers[i];
        attention(*decoder, layer, *rows, buffers);
        inferflux_add_rms_norm(residual, buffers.added, layer.norm_mlp, buffers.state, count, width, decoder->epsilon);
        feed_forward(*decoder, layer, count, buffers);
        const bool last = i + 1 == decoder->layers;
        inferflux_add_rms_norm(residual, buffers.added, last ? norm : layers[i + 1].norm_in,
                               last ? out : buffers.state, count, width, decoder->epsilon);
    }
}
