// Norms over the features of a row: its mean and 1 / sqrt(var + eps), forward and backward.
#pragma once

#include "elementwise.h"

namespace seq2seq {

enum class Norm { none, layer, rms };

// N(v) = (v - mean) * scale; rms norm subtracts no mean; without a norm N(v) = v.
struct Moments {
  float mean = 0.0f;
  float scale = 1.0f;

  ALWAYS_INLINE float operator()(float v) const { return (v - mean) * scale; }
};

// f(0) + ... + f(size - 1), in four independent sums: a single one would wait for each addition.
template <typename F>
ALWAYS_INLINE float sum_of(int64_t size, const F f) {
  const int64_t quarter = size / 4;
  float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
#pragma omp simd reduction(+ : a, b, c, d)
  for (int64_t j = 0; j < quarter; ++j) {
    a += f(j);
    b += f(quarter + j);
    c += f(2 * quarter + j);
    d += f(3 * quarter + j);
  }
  for (int64_t j = 4 * quarter; j < size; ++j) a += f(j);
  return (a + b) + (c + d);
}

// Moments of a row v (size). Two passes avoid cancellation where the mean is large compared with
// the deviations.
template <Norm kNorm, typename P>
Moments moments(const P* v, int64_t size, float eps) {
  Moments m;
  if constexpr (kNorm == Norm::none) return m;
  if constexpr (kNorm == Norm::layer)
    m.mean = sum_of(size, [v](int64_t j) { return as_float(v[j]); }) / size;
  const float mean = m.mean;
  const float squares = sum_of(size, [v, mean](int64_t j) {
    const float deviation = as_float(v[j]) - mean;
    return deviation * deviation;
  });
  m.scale = 1.0f / std::sqrt(squares / size + eps);
  return m;
}

// With d = dL/dN(v): dL/dv = scale * (d - mean(d) - N(v) * mean(d * N(v))), the first mean only
// in layer norm.
struct BackThrough {
  float mean_d = 0.0f;
  float mean_dn = 0.0f;
  float scale = 1.0f;

  ALWAYS_INLINE float operator()(float d, float n) const {
    return scale * (d - mean_d - n * mean_dn);
  }
};

template <Norm kNorm>
BackThrough back_through(float sum_d, float sum_dn, int64_t size, float scale) {
  BackThrough b;
  if constexpr (kNorm == Norm::none) return b;
  if constexpr (kNorm == Norm::layer) b.mean_d = sum_d / size;
  b.mean_dn = sum_dn / size;
  b.scale = scale;
  return b;
}

}  // namespace seq2seq
