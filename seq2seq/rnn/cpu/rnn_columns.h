// The vanilla RNN's features with batch norm on the sum of both terms: rnn_step of ../reference.py,
// forward and backward.
#pragma once

#include "columns.h"
#include "vectors.h"

namespace seq2seq {

template <typename U, typename P, bool kRelu>
struct RnnColumns {
  using Input = U;
  using Products = P;
  template <typename V>
  using Vectors = RnnVectors<V>;
  using Layer = ColumnLayer<Vectors<const float*>>;
  static constexpr int64_t kGates = 1;
  static constexpr int64_t kStatistics = 1;  // times H: of the sum
  static constexpr bool kHasCell = false;
  static constexpr bool kSameTerms = true;
  static constexpr int64_t kBackwardScratch = 2;  // times H

  static void forward(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width) {
    const int64_t H = l.hidden;
    keep_z(s, kGates, H, first, width);
    sum(s, H, first, width, s.h);  // h is written there later
    const ColumnTerm<float> term(s, s.h + first, H, width, l.gain + first, first, s.by_batch,
                                 l.eps);
    for (int64_t r = 0; r < s.rows; ++r) {
      float y[kWidth];
      std::copy_n(l.bias + first, width, y);
      term.add_to(r, y);
      float* h = s.h + r * H + first;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) h[j] = kRelu ? (y[j] < 0.0f ? 0.0f : y[j]) : tanh(y[j]);
    }
  }

  static void backward(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width,
                       const ColumnGradients<U, P>& d, const Vectors<float*>& sums) {
    const int64_t H = l.hidden;
    float *summed = d.scratch, *da = d.scratch + s.rows * H + first;
    sum(s, H, first, width, summed);
    for (int64_t r = 0; r < s.rows; ++r) {
      float dh[kWidth];
      d.incoming.of_h(r, H, first, width, dh);
      const float* h = s.h + r * H + first;
      float* d_a = da + r * H;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j)
        d_a[j] = kRelu ? (h[j] > 0.0f ? dh[j] : 0.0f) : dh[j] * (1.0f - h[j] * h[j]);
    }
    const ColumnTerm<float> term(s, summed + first, H, width, l.gain + first, first, false, l.eps);
    term.back(da, H, s.rows, s.by_batch, sums.gain + first, sums.bias + first, summed + first);
    for (int64_t r = 0; r < s.rows; ++r) {
      const float* d_sum = summed + r * H + first;
      U* d_u = d.du + r * H + first;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) d_u[j] = rounded<U>(d_sum[j]);
    }
  }

 private:
  // u + z of a block's features.
  static void sum(const ColumnStep<U, P>& s, int64_t H, int64_t first, int64_t width, float* into) {
    for (int64_t r = 0; r < s.rows; ++r) {
      const int64_t at = r * H + first;
      const U* u = s.u + at;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) into[at + j] = as_float(u[j]);
      if (s.z == nullptr) continue;
      const P* z = s.z + at;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) into[at + j] += as_float(z[j]);
    }
  }
};

template <typename U, typename P>
using TanhColumns = RnnColumns<U, P, false>;
template <typename U, typename P>
using ReluColumns = RnnColumns<U, P, true>;

}  // namespace seq2seq
