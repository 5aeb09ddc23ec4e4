// The vanilla RNN's features with batch norm, on the sum of both terms or on each: rnn_step of
// ../reference.py, forward and backward.
#pragma once

#include "columns.h"
#include "vectors.h"

namespace seq2seq {

// h = f(y) of a block of features in row r.
template <bool kRelu, typename U, typename P>
void activate(const ColumnStep<U, P>& s, int64_t r, int64_t H, int64_t first, int64_t width,
              const float* y) {
  float* h = s.h + r * H + first;
#pragma omp simd
  for (int64_t j = 0; j < width; ++j) h[j] = activation<kRelu>(y[j]);
}

// dL/dy of a block of features, its row r at da + r * H.
template <bool kRelu, typename U, typename P>
void through_activations(const ColumnStep<U, P>& s, const ColumnGradients<U, P>& d, int64_t H,
                         int64_t first, int64_t width, float* da) {
  for (int64_t r = 0; r < s.rows; ++r) {
    float dh[kWidth];
    d.incoming.of_h(r, H, first, width, dh);
    const float* h = s.h + r * H + first;
    float* d_a = da + r * H;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) d_a[j] = through_activation<kRelu>(dh[j], h[j]);
  }
}

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
      activate<kRelu>(s, r, H, first, width, y);
    }
  }

  static void backward(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width,
                       const ColumnGradients<U, P>& d, const Vectors<float*>& sums) {
    const int64_t H = l.hidden;
    float *summed = d.scratch, *da = d.scratch + s.rows * H + first;
    sum(s, H, first, width, summed);
    through_activations<kRelu>(s, d, H, first, width, da);
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

template <typename U, typename P, bool kRelu>
struct SeparateRnnColumns {
  using Input = U;
  using Products = P;
  template <typename V>
  using Vectors = SeparateRnnVectors<V>;
  using Layer = ColumnLayer<Vectors<const float*>>;
  static constexpr int64_t kGates = 1;
  static constexpr int64_t kStatistics = 2;  // times H: of the input term and the recurrent term
  static constexpr bool kHasCell = false;
  static constexpr bool kSameTerms = false;
  static constexpr int64_t kBackwardScratch = 1;  // times H

  static void forward(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width) {
    const int64_t H = l.hidden;
    const GateTerms<kGates, U, P> terms(l, s, first, width, s.by_batch);
    keep_z(s, kGates, H, first, width);
    for (int64_t r = 0; r < s.rows; ++r) {
      float y[kWidth];
      terms.summed(0, r, l.bias + first, y);
      activate<kRelu>(s, r, H, first, width, y);
    }
  }

  static void backward(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width,
                       const ColumnGradients<U, P>& d, const Vectors<float*>& sums) {
    const int64_t H = l.hidden;
    const GateTerms<kGates, U, P> terms(l, s, first, width, false);
    float* da = d.scratch + first;
    through_activations<kRelu>(s, d, H, first, width, da);
    terms.ih[0].back(da, H, s.rows, s.by_batch, sums.gain_ih + first, sums.bias + first,
                     d.du + first);
    terms.hh[0].back(da, H, s.rows, s.by_batch, sums.gain_hh + first, nullptr, d.dz + first);
  }
};

template <typename U, typename P>
using TanhColumns = RnnColumns<U, P, false>;
template <typename U, typename P>
using ReluColumns = RnnColumns<U, P, true>;
template <typename U, typename P>
using SeparateTanhColumns = SeparateRnnColumns<U, P, false>;
template <typename U, typename P>
using SeparateReluColumns = SeparateRnnColumns<U, P, true>;

}  // namespace seq2seq
