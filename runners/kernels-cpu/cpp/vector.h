// As many floats as a register holds: 16 with AVX-512, 8 with AVX2.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace inferflux {

#ifdef __AVX512F__

constexpr int64_t kLanes = 16;
using Floats = __m512;
using Mask = __mmask16;

inline Floats zero() { return _mm512_setzero_ps(); }
inline Floats fill(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
inline void store(float* to, Floats v) { _mm512_storeu_ps(to, v); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }           // a * b + c
inline Floats fused_negative(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
inline Floats magnitude(Floats v) { return _mm512_abs_ps(v); }
inline Floats rounded(Floats v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// 2^n for whole n in -126 .. 127.
inline Floats power_of_two(Floats n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}
inline float sum(Floats v) { return _mm512_reduce_add_ps(v); }
inline float max(Floats v) { return _mm512_reduce_max_ps(v); }

inline Floats load_half(const uint16_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline Mask less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
// The lanes from `low` on and before `high`; both may lie outside of them.
inline Mask lanes(int64_t low, int64_t high) {
    const __m512i number = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_cmplt_epi32_mask(number, _mm512_set1_epi32(static_cast<int>(high))) &
           ~_mm512_cmplt_epi32_mask(number, _mm512_set1_epi32(static_cast<int>(low)));
}
// `b` where the mask says so, and else `a`.
inline Floats choose(Mask mask, Floats a, Floats b) { return _mm512_mask_mov_ps(a, mask, b); }
inline Floats load(const float* from, Mask mask) { return _mm512_maskz_loadu_ps(mask, from); }
inline void store(float* to, Floats v, Mask mask) { _mm512_mask_storeu_ps(to, mask, v); }

#else

constexpr int64_t kLanes = 8;
using Floats = __m256;
using Mask = __m256i;

inline Floats zero() { return _mm256_setzero_ps(); }
inline Floats fill(float x) { return _mm256_set1_ps(x); }
inline Floats load(const float* from) { return _mm256_loadu_ps(from); }
inline void store(float* to, Floats v) { _mm256_storeu_ps(to, v); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
inline Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats fused(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }           // a * b + c
inline Floats fused_negative(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
inline Floats magnitude(Floats v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
inline Floats rounded(Floats v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// 2^n for whole n in -126 .. 127.
inline Floats power_of_two(Floats n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
inline float sum(Floats v) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float max(Floats v) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

inline Floats load_half(const uint16_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

inline Mask less(Floats a, Floats b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
// The lanes from `low` on and before `high`; both may lie outside of them.
inline Mask lanes(int64_t low, int64_t high) {
    const __m256i number = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(low)), number),
                               _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(high)), number));
}
// `b` where the mask says so, and else `a`.
inline Floats choose(Mask mask, Floats a, Floats b) { return _mm256_blendv_ps(a, b, _mm256_castsi256_ps(mask)); }
inline Floats load(const float* from, Mask mask) { return _mm256_maskload_ps(from, mask); }
inline void store(float* to, Floats v, Mask mask) { _mm256_maskstore_ps(to, mask, v); }

#endif

// e^x by Cephes' polynomial after range reduction: relative error below 2e-7. Below -87 it is 0.
inline Floats exp(Floats x) {
    const Floats least = fill(-87.0f);
    const Mask tiny = less(x, least);
    x = smaller(larger(x, least), fill(88.0f));
    const Floats n = rounded(multiply(x, fill(1.44269504088896341f)));
    Floats r = fused_negative(n, fill(0.693359375f), x);
    r = fused_negative(n, fill(-2.12194440e-4f), r);
    Floats p = fill(1.9875691500e-4f);
    p = fused(p, r, fill(1.3981999507e-3f));
    p = fused(p, r, fill(8.3334519073e-3f));
    p = fused(p, r, fill(4.1665795894e-2f));
    p = fused(p, r, fill(1.6666665459e-1f));
    p = fused(p, r, fill(5.0000001201e-1f));
    p = fused(p, multiply(r, r), add(r, fill(1.0f)));
    return choose(tiny, multiply(p, power_of_two(n)), zero());
}

}  // namespace inferflux
