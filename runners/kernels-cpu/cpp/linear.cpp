// Linear layers: which kernel takes which weight.
#ifdef __AVX512F__
#include "linear_avx512.h"
#else
#include "linear_avx2.h"
#endif

using namespace inferflux;

namespace {

template <class Visit>
auto with_kernel(int64_t precision, Visit visit) {
    switch (precision) {
        case kBFloat16: return visit(BFloat16Kernel{});
        case kHalf: return visit(FloatKernel<HalfWords>{});
        default: return visit(Int8Kernel{});
    }
}

}  // namespace

int64_t inferflux_panel() { return kPanel; }

int64_t inferflux_packed_bytes(int64_t precision, int64_t inputs, int64_t outputs) {
    return with_kernel(precision,
                       [&](auto kernel) { return kernel.panel_bytes(inputs) * parts_of(outputs, kPanel); });
}

int64_t inferflux_scratch_bytes(const InferfluxLinear* linear, int64_t rows) {
    return with_kernel(linear->precision, [&](auto kernel) { return kernel.row_bytes(linear->inputs) * rows; });
}

void inferflux_pack(const InferfluxLinear* linear, const void* weight) {
    with_kernel(linear->precision, [&](auto kernel) {
        using Kernel = decltype(kernel);
        pack<Kernel>(*linear, static_cast<const typename Kernel::Number*>(weight));
    });
}

void inferflux_linear(const InferfluxLinear* linear, const float* in, float* out, void* scratch, int64_t rows) {
    with_kernel(linear->precision, [&](auto kernel) {
        multiply<decltype(kernel)>(*linear, in, out, static_cast<uint8_t*>(scratch), rows);
    });
}
