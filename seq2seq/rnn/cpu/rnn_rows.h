// The vanilla RNN's row: rnn_step of ../reference.py, its norm on the sum of both terms, forward
// and backward.
#pragma once

#include "rows.h"
#include "vectors.h"

namespace seq2seq {

template <Norm kNorm, typename P, bool kRelu>
struct RnnRow {
  static constexpr int64_t kGates = 1;
  static constexpr int64_t kMoments = 1;  // of the sum
  static constexpr bool kHasCell = false;
  static constexpr bool kKeepsGates = false;
  static constexpr bool kSameTerms = true;
  static constexpr int64_t kForwardScratch = 1, kBackwardScratch = 2;  // times H

  template <typename V>
  using Vectors = RnnVectors<V>;
  static constexpr int64_t kVectors = Vectors<float*>::kCount;  // times H

  static void sum(const Row<P> row, int64_t H, float* into) {
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) into[j] = as_float(row.u[j]) + as_float(row.z[j]);
  }

  static void forward(const Vectors<const float*> v, const Row<P> row, int64_t H, float eps,
                      float* scratch, Moments* m, float*, float* h, P*) {
    sum(row, H, scratch);
    const Term<kNorm, float> term{scratch, v.gain, moments<kNorm>(scratch, H, eps)};
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) h[j] = activation<kRelu>(term(j) + v.bias[j]);
    m[0] = term.m;
  }

  static void backward(const Vectors<const float*> v, const Row<P> row, int64_t H, const Moments* m,
                       const float*, const float* h, const P*, const float* dh, float*,
                       float* scratch, P* du, P*, const Vectors<float*> sums) {
    float *summed = scratch, *da = scratch + H;
    sum(row, H, summed);
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) da[j] = through_activation<kRelu>(dh[j], h[j]);
    add(da, H, sums.bias);
    const Term<kNorm, float> term{summed, v.gain, m[0]};
    back_through_term<kNorm, float>(term, da, 0, H, sums.gain, summed);
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) du[j] = rounded<P>(summed[j]);
  }
};

template <Norm kNorm, typename P>
using TanhRow = RnnRow<kNorm, P, false>;
template <Norm kNorm, typename P>
using ReluRow = RnnRow<kNorm, P, true>;

}  // namespace seq2seq
