// One row of one step, as the cells see it where norms are over the features of a row.
#pragma once

#include "norms.h"

namespace seq2seq {

// Pass these structs by value: loops over features are vectorised where they read local copies of
// pointers and moments.
template <typename P>
struct Row {
  const P* u;  // (G * H)
  const P* z;  // (G * H); zeros where has_z is false
  bool has_z;
  const float* h_before;  // (H); zeros where there is none, as c_before
  const float* c_before;  // (H)
};

// gain * N(v) for consecutive features of a row that share their moments.
template <Norm kNorm, typename P>
struct Term {
  const P* v;
  const float* gain;
  Moments m;

  ALWAYS_INLINE float normal(int64_t at) const { return m(as_float(v[at])); }
  ALWAYS_INLINE float operator()(int64_t at) const {
    if constexpr (kNorm == Norm::none) return as_float(v[at]);
    return gain[at] * normal(at);
  }
};

// Moments of z; where there is no h_{t-1}, N(z) is 0.
template <Norm kNorm, typename P>
Moments recurrent_moments(const Row<P>& row, int64_t from, int64_t size, float eps) {
  return row.has_z ? moments<kNorm>(row.z + from, size, eps) : Moments{0.0f, 0.0f};
}

// Of `size` features from `from` on, given d = dL/d(gain * N(v) + bias): adds to the gradient of
// the gain, and writes dL/dv. Without a norm it only copies d.
template <Norm kNorm, typename P>
void back_through_term(const Term<kNorm, P> term, const float* d, int64_t from, int64_t size,
                       float* gain_sum, P* dv) {
  if constexpr (kNorm == Norm::none) {
#pragma omp simd
    for (int64_t at = from; at < from + size; ++at) dv[at] = rounded<P>(d[at]);
    return;
  }
  float sum = 0.0f, sum_n = 0.0f;
#pragma omp simd reduction(+ : sum, sum_n)
  for (int64_t at = from; at < from + size; ++at) {
    const float d_gain = d[at] * term.normal(at);
    gain_sum[at] += d_gain;
    sum += d[at] * term.gain[at];
    sum_n += d_gain * term.gain[at];
  }
  const BackThrough back = back_through<kNorm>(sum, sum_n, size, term.m.scale);
#pragma omp simd
  for (int64_t at = from; at < from + size; ++at)
    dv[at] = rounded<P>(back(d[at] * term.gain[at], term.normal(at)));
}

}  // namespace seq2seq
