// Batch norm in a cell: every feature is normalised over the rows of a step, independently of the
// others until the next product. kWidth features at a time are taken through a step.
#pragma once

#include "steps.h"

namespace seq2seq {

constexpr int64_t kWidth = 64;

// What is the same at every step. `V` are the cell's vectors.
template <typename V>
struct ColumnLayer : V {
  int64_t hidden;
  float eps;
  bool normalises_input;  // else u is the whole input term already

  ColumnLayer(const float* vectors, int64_t H, float epsilon, bool input)
      : V(vectors, H), hidden(H), eps(epsilon), normalises_input(input) {}
};

// A step, and its statistics: F of them, first the input term's, then the recurrent term's, then
// the cell's.
template <typename U, typename P>
struct ColumnStep : Step<U, P> {
  bool by_batch;  // normalised by the step's own statistics, not by given ones
  float* mean;    // (F): given, or filled in
  float* var;     // (F), biased
};

// The statistics of a step, F of them; they are written only where they are the step's own.
template <typename U, typename P>
ColumnStep<U, P> with_statistics(const Step<U, P>& s, bool own, const Tensor& mean,
                                 const Tensor& var, int64_t place) {
  const int64_t at = place * mean.size(1);
  return {s, own, const_cast<float*>(mean.const_data_ptr<float>()) + at,
          const_cast<float*>(var.const_data_ptr<float>()) + at};
}

// The statistics of all steps: the first n steps are normalised by their own.
struct Statistics {
  Tensor own_mean, own_var;  // (n, F)
  Tensor mean, var;          // (T - n, F): given for the others

  // Room for n steps' own. The first step has none of z if it has no h_0.
  static Statistics with_room(int64_t n, const Tensor& mean, const Tensor& var) {
    const auto room = [&] {
      const Tensor own = at::empty({n, mean.size(1)}, at::kFloat);
      std::fill_n(own.mutable_data_ptr<float>(), std::min<int64_t>(n, 1) * own.size(1), 0.0f);
      return own;
    };
    return {room(), room(), mean.contiguous(), var.contiguous()};
  }

  // Of steps (T, F), of which the first n are overwritten.
  static Statistics within(int64_t n, const Tensor& mean, const Tensor& var) {
    return {mean.slice(0, 0, n), var.slice(0, 0, n), mean.slice(0, n), var.slice(0, n)};
  }

  template <typename U, typename P>
  ColumnStep<U, P> of(const Step<U, P>& s) const {
    const int64_t n = own_mean.size(0);
    if (s.t < n) return with_statistics(s, true, own_mean, own_var, s.t);
    return with_statistics(s, false, mean, var, s.t - n);
  }
};

// Where a step's gradients go and come from.
template <typename U, typename P>
struct ColumnGradients {
  StepGradients<P> incoming;
  float* carried;  // (rows, H): comes from the step after and is left for the one before
  float* scratch;  // (rows, kBackwardScratch * H)
  U* du;           // (rows, G * H)
  P* dz;           // (rows, G * H)
};

// Mean and 1 / sqrt(var + eps) of up to kWidth features side by side; by default N(v) = 0.
struct Columns {
  float mean[kWidth] = {};
  float scale[kWidth] = {};

  ALWAYS_INLINE float operator()(float v, int64_t j) const { return (v - mean[j]) * scale[j]; }
};

// The statistics of `width` features of v (rows, stride); those of the step itself
// are also stored.
template <typename V>
Columns columns(const V* v, int64_t rows, int64_t stride, int64_t width, bool own, float* mean,
                float* var, float eps) {
  Columns found;
  if (own) {
    float sum[kWidth] = {}, squares[kWidth] = {};
    for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) sum[j] += as_float(v[r * stride + j]);
    }
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) mean[j] = sum[j] / rows;
    for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) {
        const float deviation = as_float(v[r * stride + j]) - mean[j];
        squares[j] += deviation * deviation;
      }
    }
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) var[j] = squares[j] / rows;
  }
#pragma omp simd
  for (int64_t j = 0; j < width; ++j) {
    found.mean[j] = mean[j];
    found.scale[j] = 1.0f / std::sqrt(var[j] + eps);
  }
  return found;
}

// gain * N(v) for a block of features of a term.
template <typename V>
struct ColumnTerm {
  const V* v = nullptr;  // (rows, stride), from the block's first feature on; null where N(v) is 0
  const float* gain = nullptr;  // null where v is the whole term already
  int64_t stride = 0, width = 0;
  Columns n;

  ColumnTerm() = default;
  // `at`: where the block's statistics are among the step's. They are found if `own`, else given.
  template <typename S>
  ColumnTerm(const S& s, const V* first, int64_t row_stride, int64_t features, const float* gains,
             int64_t at, bool own, float eps)
      : v(first), gain(gains), stride(row_stride), width(features) {
    if (is_normalised()) n = columns(v, s.rows, stride, width, own, s.mean + at, s.var + at, eps);
  }

  bool is_normalised() const { return v != nullptr && gain != nullptr; }

  // Adds the term of row r to y.
  ALWAYS_INLINE void add_to(int64_t r, float* y) const {
    if (v == nullptr) return;
    const V* row = v + r * stride;
    if (gain == nullptr) {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) y[j] += as_float(row[j]);
    } else {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) y[j] += gain[j] * n(as_float(row[j]), j);
    }
  }

  // With d = dL/d(gain * N(v) + bias), its row r at d + r * d_stride, adds to the gradients of gain
  // and bias (where there is one) and writes dL/dv = gain * scale * (d - mean(d) - N(v) * mean(d *
  // N(v))), means over rows, or gain * scale * d where the statistics were given.
  void back(const float* d, int64_t d_stride, int64_t rows, bool by_batch, float* gain_sum,
            float* bias_sum, V* dv) const {
    float sum_d[kWidth] = {}, sum_dn[kWidth] = {};
    for (int64_t r = 0; r < rows; ++r) {
      const float* d_row = d + r * d_stride;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) sum_d[j] += d_row[j];
      if (!is_normalised()) continue;
      const V* row = v + r * stride;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) sum_dn[j] += d_row[j] * n(as_float(row[j]), j);
    }
    for (int64_t j = 0; j < width; ++j) {
      if (bias_sum != nullptr) bias_sum[j] += sum_d[j];
      gain_sum[j] += sum_dn[j];
      sum_d[j] = by_batch ? sum_d[j] / rows : 0.0f;
      sum_dn[j] = by_batch ? sum_dn[j] / rows : 0.0f;
    }
    if (v == nullptr) return;
    for (int64_t r = 0; r < rows; ++r) {
      const float* d_row = d + r * d_stride;
      const V* row = v + r * stride;
      V* dv_row = dv + r * stride;
      if (gain == nullptr) {
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) dv_row[j] = rounded<V>(d_row[j]);
      } else {
#pragma omp simd
        for (int64_t j = 0; j < width; ++j)
          dv_row[j] = rounded<V>(gain[j] * n.scale[j] *
                                 (d_row[j] - sum_d[j] - n(as_float(row[j]), j) * sum_dn[j]));
      }
    }
  }
};

// The separate input and recurrent terms of all gates, in a block of features from hidden feature
// `first` on.
template <int64_t kGates, typename U, typename P>
struct GateTerms {
  ColumnTerm<U> ih[kGates];
  ColumnTerm<P> hh[kGates];

  template <typename Layer>
  GateTerms(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width, bool own) {
    const int64_t H = l.hidden, stride = kGates * H;
    for (int64_t k = 0; k < kGates; ++k) {
      const int64_t at = k * H + first;
      const float* gain_ih = l.normalises_input ? l.gain_ih + at : nullptr;
      ih[k] = ColumnTerm<U>(s, s.u + at, stride, width, gain_ih, at, own, l.eps);
      const P* z = s.z == nullptr ? nullptr : s.z + at;
      hh[k] = ColumnTerm<P>(s, z, stride, width, l.gain_hh + at, stride + at, own, l.eps);
    }
  }

  // Gate k's summed inputs in row r.
  ALWAYS_INLINE void summed(int64_t k, int64_t r, const float* bias, float* y) const {
    std::copy_n(bias, ih[k].width, y);
    ih[k].add_to(r, y);
    hh[k].add_to(r, y);
  }
};

// Copies a block of all gates' z to where it is kept; zeros where there is none.
template <typename U, typename P>
void keep_z(const ColumnStep<U, P>& s, int64_t gates, int64_t H, int64_t first, int64_t width) {
  if (s.kept == nullptr) return;
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t k = 0; k < gates; ++k) {
      const int64_t at = (r * gates + k) * H + first;
      if (s.z != nullptr)
        std::copy_n(s.z + at, width, s.kept + at);
      else
        std::fill_n(s.kept + at, width, P(0.0f));
    }
}

}  // namespace seq2seq
