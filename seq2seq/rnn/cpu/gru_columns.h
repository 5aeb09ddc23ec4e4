// The GRU's features with batch norm: gru_step of ../reference.py with separate terms,
// forward and backward.
#pragma once

#include "columns.h"
#include "vectors.h"

namespace seq2seq {

template <typename U, typename P>
struct GruColumns {
  using Input = U;
  using Products = P;
  template <typename V>
  using Vectors = GruVectors<V>;
  using Layer = ColumnLayer<Vectors<const float*>>;
  static constexpr int64_t kGates = 3;       // r z n
  static constexpr int64_t kStatistics = 6;  // times H: of the input term and the recurrent term
  static constexpr bool kHasCell = false;
  static constexpr bool kSameTerms = false;       // r acts on the recurrent term alone
  static constexpr int64_t kBackwardScratch = 4;  // times H

  static void forward(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width) {
    const Terms terms(l, s, first, width, s.by_batch);
    keep_z(s, kGates, l.hidden, first, width);
    for (int64_t r = 0; r < s.rows; ++r) {
      const Values a(l, s, terms, first, width, r);
      float* h = s.h + r * l.hidden + first;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) h[j] = (1.0f - a.z[j]) * a.n[j] + a.z[j] * a.before[j];
    }
  }

  // carried becomes the part of dL/dh_{t-1} that does not pass through W_hh.
  static void backward(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width,
                       const ColumnGradients<U, P>& d, const Vectors<float*>& sums) {
    const int64_t H = l.hidden, stride = kGates * H;
    const Terms terms(l, s, first, width, false);
    float* da = d.scratch + first;  // dL/dy_ih (rows, 3H)
    float* da_new = d.scratch + s.rows * stride +
                    first;  // dL/dy_hh of the n part (rows, H), which alone differs
    for (int64_t r = 0; r < s.rows; ++r) {
      const Values a(l, s, terms, first, width, r);
      float dh[kWidth];
      d.incoming.of_h(r, H, first, width, dh);
      float *carried = d.carried + r * H + first, *d_a = da + r * stride, *d_new = da_new + r * H;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) {
        const float d_h = dh[j] + carried[j];
        const float d_n = d_h * (1.0f - a.z[j]) * (1.0f - a.n[j] * a.n[j]);
        d_a[j] = d_n * a.y_hh[j] * a.r[j] * (1.0f - a.r[j]);
        d_a[H + j] = d_h * (a.before[j] - a.n[j]) * a.z[j] * (1.0f - a.z[j]);
        d_a[2 * H + j] = d_n;
        d_new[j] = d_n * a.r[j];
        carried[j] = d_h * a.z[j];
      }
    }
    for (int64_t k = 0; k < kGates; ++k) {
      const int64_t at = k * H + first;
      const bool is_new = k == 2;
      terms.ih[k].back(da + k * H, stride, s.rows, s.by_batch, sums.gain_ih + at, sums.bias_ih + at,
                       d.du + at);
      terms.hh[k].back(is_new ? da_new : da + k * H, is_new ? H : stride, s.rows, s.by_batch,
                       sums.gain_hh + at, sums.bias_hh + at, d.dz + at);
    }
  }

 private:
  using Terms = GateTerms<kGates, U, P>;

  // A row's gates, its candidate n, what r lets through of the recurrent term, and h_{t-1}.
  struct Values {
    float r[kWidth], z[kWidth], n[kWidth], y_hh[kWidth], before[kWidth] = {};

    Values(const Layer& l, const ColumnStep<U, P>& s, const Terms& terms, int64_t first,
           int64_t width, int64_t row) {
      const int64_t H = l.hidden, at = 2 * H + first;
      terms.summed(0, row, l.bias_ih + first, r);
      terms.summed(1, row, l.bias_ih + H + first, z);
      std::copy_n(l.bias_ih + at, width, n);
      terms.ih[2].add_to(row, n);
      std::copy_n(l.bias_hh + at, width, y_hh);
      terms.hh[2].add_to(row, y_hh);
      if (s.h_before != nullptr) std::copy_n(s.h_before + row * H + first, width, before);
      const float *bias_r = l.bias_hh + first, *bias_z = l.bias_hh + H + first;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) {
        r[j] = sigmoid(r[j] + bias_r[j]);
        z[j] = sigmoid(z[j] + bias_z[j]);
        n[j] = tanh(n[j] + r[j] * y_hh[j]);
      }
    }
  };
};

}  // namespace seq2seq
