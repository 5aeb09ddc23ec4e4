// exp, sigmoid and tanh as plain arithmetic without branches, so that the compiler turns a loop
// over them into vectors.
#pragma once

#include <c10/util/BFloat16.h>

#include <cmath>
#include <cstdint>
#include <cstring>

// Whatever is called within a loop has to be inlined, or the loop stays scalar.
#define ALWAYS_INLINE __attribute__((always_inline)) inline

namespace seq2seq {

using c10::BFloat16;

struct ScaledExp {
  float power;  // 2^n
  float rest;   // e^r - 1
};

constexpr float kLargestExponent = 87.0f;  // of scaled_exp: the caller clamps

// e^x = power * (1 + rest), x = n ln 2 + r with |r| <= ln 2 / 2; e^r by a polynomial of relative
// error 1e-8.
ALWAYS_INLINE ScaledExp scaled_exp(float x) {
  constexpr float kInteger =
      12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer, its lowest bits
  const float shifted = x * 1.44269504f + kInteger;
  const float n = shifted - kInteger;
  const float r =
      (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first of them exact
  const float q =
      0.5f + r * (0.16666576f + r * (0.041666463f + r * (0.008363205f + r * 0.0013933687f)));
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;  // the exponent of 2^n
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return {power, r + r * r * q};
}

ALWAYS_INLINE float clamp(float x, float bound) {  // a NaN stays one
  x = x > bound ? bound : x;
  return x < -bound ? -bound : x;
}

ALWAYS_INLINE float sigmoid(float x) {
  const ScaledExp e = scaled_exp(clamp(-x, kLargestExponent));
  return 1.0f / (1.0f + (e.power + e.power * e.rest));
}

// (e^2x - 1) / (e^2x + 1), the numerator without cancellation: exact to a few units in the last
// place near 0 too.
ALWAYS_INLINE float tanh(float x) {
  const ScaledExp e = scaled_exp(2.0f * clamp(x, 10.0f));
  const float less_one = e.power * e.rest + (e.power - 1.0f);
  return less_one / (less_one + 2.0f);
}

// f of the vanilla cell.
template <bool kRelu>
ALWAYS_INLINE float activation(float y) {
  return kRelu ? (y < 0.0f ? 0.0f : y) : tanh(y);
}

// dL/dy from d = dL/dh, h = f(y).
template <bool kRelu>
ALWAYS_INLINE float through_activation(float d, float h) {
  return kRelu ? (h > 0.0f ? d : 0.0f) : d * (1.0f - h * h);
}

ALWAYS_INLINE float as_float(float x) { return x; }

ALWAYS_INLINE float as_float(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename P>
ALWAYS_INLINE P rounded(float x);

template <>
ALWAYS_INLINE float rounded<float>(float x) {
  return x;
}

// To the nearest, ties to even; a NaN stays one.
template <>
ALWAYS_INLINE BFloat16 rounded<BFloat16>(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return BFloat16(static_cast<uint16_t>(x != x ? 0x7fc0 : nearest), BFloat16::from_bits());
}

inline void add(const float* d, int64_t size, float* sum) {
#pragma omp simd
  for (int64_t at = 0; at < size; ++at) sum[at] += d[at];
}

}  // namespace seq2seq
