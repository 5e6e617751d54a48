// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Vectors of floats, as wide as the compiler's flags allow. Written with GCC's and clang's vector extensions, so that the same source
// becomes AVX-512, AVX2, SSE or NEON.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#else
#define LANES 4
#endif

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define ALWAYS_INLINE __attribute__((always_inline)) inline

namespace occle {

typedef float Vector __attribute__((vector_size(LANES * 4)));
typedef float Unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t Integers __attribute__((vector_size(LANES * 4)));

ALWAYS_INLINE Vector load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
ALWAYS_INLINE void store(float* to, Vector x) { *reinterpret_cast<Unaligned*>(to) = x; }
ALWAYS_INLINE Vector broadcast(float x) { return Vector{} + x; }
// D floats, a multiple of LANES; rows are too short to call memcpy for each.
ALWAYS_INLINE void copy_row(const float* from, int64_t D, float* to) {
    for (int64_t d = 0; d < D; d += LANES) store(to + d, load(from + d));
}
ALWAYS_INLINE Vector maximum(Vector a, Vector b) { return a > b ? a : b; }

// The sum and the largest of a vector's floats, by halves; the first place where two vectors are equal, LANES if nowhere.
#if LANES == 16
ALWAYS_INLINE float sum_of(Vector x) { return _mm512_reduce_add_ps(reinterpret_cast<__m512>(x)); }
ALWAYS_INLINE float largest_of(Vector x) { return _mm512_reduce_max_ps(reinterpret_cast<__m512>(x)); }
ALWAYS_INLINE int first_equal(Vector a, Vector b) {
    const uint32_t equal = _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_EQ_OQ);
    return equal ? __builtin_ctz(equal) : LANES;
}
#elif LANES == 8
ALWAYS_INLINE float sum_of(Vector x) {
    const __m256 whole = reinterpret_cast<__m256>(x);
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(whole), _mm256_extractf128_ps(whole, 1));
    const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
}
ALWAYS_INLINE float largest_of(Vector x) {
    const __m256 whole = reinterpret_cast<__m256>(x);
    const __m128 half = _mm_max_ps(_mm256_castps256_ps128(whole), _mm256_extractf128_ps(whole, 1));
    const __m128 quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)));
}
ALWAYS_INLINE int first_equal(Vector a, Vector b) {
    const __m256 equal = _mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_EQ_OQ);
    const int bits = _mm256_movemask_ps(equal);
    return bits ? __builtin_ctz(static_cast<unsigned>(bits)) : LANES;
}
#else
ALWAYS_INLINE float sum_of(Vector x) {
    float part[LANES];
    std::memcpy(part, &x, sizeof part);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) part[i] += part[i + width];
    return part[0];
}
ALWAYS_INLINE float largest_of(Vector x) {
    float part[LANES];
    std::memcpy(part, &x, sizeof part);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) part[i] = part[i] > part[i + width] ? part[i] : part[i + width];
    return part[0];
}
ALWAYS_INLINE int first_equal(Vector a, Vector b) {
    const Integers equal = a == b;
    int i = 0;
    while (i < LANES && !equal[i]) i++;
    return i;
}
#endif

// exp of numbers that are not positive, relative error 2e-7: a power of two times a polynomial. Below -80 it is exp(-80).
ALWAYS_INLINE Vector exp_of(Vector x) {
    const Vector t = maximum(x, broadcast(-80.f)) * 1.44269504f;
    const Integers power = __builtin_convertvector(t - 0.5f, Integers);  // towards zero: the nearest, since t is not positive
    const Vector r = (t - __builtin_convertvector(power, Vector)) * 0.69314718f;
    Vector sum = broadcast(1.f / 720);
    sum = sum * r + 1.f / 120;
    sum = sum * r + 1.f / 24;
    sum = sum * r + 1.f / 6;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.f;
    sum = sum * r + 1.f;
    const Integers bits = (power + 127) << 23;
    Vector scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

// A non-negative float as a float16's bits, rounded to nearest even.
ALWAYS_INLINE uint16_t half_of(float x) {
    if (x < 6.103515625e-5f) return static_cast<uint16_t>(std::lrint(x * 16777216.f));  // below the smallest normal number
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits += 0x0fff + (bits >> 13 & 1);
    return static_cast<uint16_t>((bits - (112u << 23)) >> 13);
}

}  // namespace occle
