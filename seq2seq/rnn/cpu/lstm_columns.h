// The LSTM's features with batch norm, which the cell state may be without: lstm_step of
// ../reference.py, forward and backward.
#pragma once

#include "columns.h"
#include "vectors.h"

namespace seq2seq {

template <typename U, typename P, bool kNormalisesCell = true>
struct LstmColumns {
  using Input = U;
  using Products = P;
  template <typename V>
  using Vectors = LstmVectors<V>;
  using Layer = ColumnLayer<Vectors<const float*>>;
  static constexpr int64_t kGates = 4;  // i f g o
  // Times H: of the input term, the recurrent term and the cell.
  static constexpr int64_t kStatistics = kNormalisesCell ? 9 : 8;
  static constexpr bool kHasCell = true;
  static constexpr bool kSameTerms = false;
  static constexpr int64_t kBackwardScratch = 5;  // times H

  static ColumnTerm<float> cell_term(const Layer& l, const ColumnStep<U, P>& s, int64_t first,
                                     int64_t width, bool own) {
    const int64_t H = l.hidden, at = 2 * kGates * H + first;
    const float* gain = kNormalisesCell ? l.gain_c + first : nullptr;
    return {s, s.c + first, H, width, gain, at, own, l.eps};
  }

  static void forward(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width) {
    const int64_t H = l.hidden;
    const GateTerms<kGates, U, P> terms(l, s, first, width, s.by_batch);
    keep_z(s, kGates, H, first, width);
    float i[kWidth], f[kWidth], g[kWidth], o[kWidth];
    for (int64_t r = 0; r < s.rows; ++r) {
      terms.summed(0, r, l.bias + first, i);
      terms.summed(1, r, l.bias + H + first, f);
      terms.summed(2, r, l.bias + 2 * H + first, g);
      terms.summed(3, r, l.bias + 3 * H + first, o);
      float* c = s.c + r * H + first;
      float* held = s.h + r * H + first;  // o, until the cell's statistics are known
      float before[kWidth] = {};
      if (s.c_before != nullptr) std::copy_n(s.c_before + r * H + first, width, before);
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) {
        c[j] = sigmoid(f[j]) * before[j] + sigmoid(i[j]) * tanh(g[j]);
        held[j] = sigmoid(o[j]);
      }
    }
    const ColumnTerm<float> cell = cell_term(l, s, first, width, s.by_batch);
    for (int64_t r = 0; r < s.rows; ++r) {
      float* held = s.h + r * H + first;
      float y[kWidth];
      std::copy_n(l.bias_c + first, width, y);
      cell.add_to(r, y);
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) held[j] *= tanh(y[j]);
    }
  }

  // carried is dL/dc_t from the steps after, and becomes dL/dc_{t-1}.
  static void backward(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width,
                       const ColumnGradients<U, P>& d, const Vectors<float*>& sums) {
    const int64_t H = l.hidden;
    const GateTerms<kGates, U, P> terms(l, s, first, width, false);
    const ColumnTerm<float> cell = cell_term(l, s, first, width, false);
    float *da = d.scratch + first, *d_cell = d.scratch + s.rows * kGates * H + first;
    for (int64_t r = 0; r < s.rows; ++r) backward_h(l, terms, cell, d, r, da, d_cell);
    cell.back(d_cell, H, s.rows, s.by_batch, sums.gain_c + first, sums.bias_c + first, d_cell);
    for (int64_t r = 0; r < s.rows; ++r) backward_c(l, s, terms, r, d_cell, d.carried, da);
    for (int64_t k = 0; k < kGates; ++k) {
      const int64_t at = k * H + first;
      terms.ih[k].back(da + k * H, kGates * H, s.rows, s.by_batch, sums.gain_ih + at,
                       sums.bias + at, d.du + at);
      terms.hh[k].back(da + k * H, kGates * H, s.rows, s.by_batch, sums.gain_hh + at, nullptr,
                       d.dz + at);
    }
  }

 private:
  using Terms = GateTerms<kGates, U, P>;

  // Row r's part of dL/do's sum and of dL/d(gain_c * N(c) + bias_c).
  static void backward_h(const Layer& l, const Terms& terms, const ColumnTerm<float>& cell,
                         const ColumnGradients<U, P>& d, int64_t r, float* da, float* d_cell) {
    const int64_t H = l.hidden, width = cell.width, first = da - d.scratch;
    float dh[kWidth], o[kWidth], y[kWidth];
    d.incoming.of_h(r, H, first, width, dh);
    terms.summed(3, r, l.bias + 3 * H + first, o);
    std::copy_n(l.bias_c + first, width, y);
    cell.add_to(r, y);
    float *d_o = da + (r * kGates + 3) * H, *d_y = d_cell + r * H;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
      const float gate = sigmoid(o[j]), squashed = tanh(y[j]);
      d_o[j] = dh[j] * squashed * gate * (1.0f - gate);
      d_y[j] = dh[j] * gate * (1.0f - squashed * squashed);
    }
  }

  // Row r's part of the other gates' sums.
  static void backward_c(const Layer& l, const ColumnStep<U, P>& s, const Terms& terms, int64_t r,
                         const float* d_cell, float* carried, float* da) {
    const int64_t H = l.hidden, width = terms.ih[0].width, first = terms.ih[0].v - s.u;
    float i[kWidth], f[kWidth], g[kWidth], before[kWidth] = {};
    terms.summed(0, r, l.bias + first, i);
    terms.summed(1, r, l.bias + H + first, f);
    terms.summed(2, r, l.bias + 2 * H + first, g);
    if (s.c_before != nullptr) std::copy_n(s.c_before + r * H + first, width, before);
    const float* d_c = d_cell + r * H;
    float *held = carried + r * H + first, *d_a = da + r * kGates * H;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
      const float in = sigmoid(i[j]), forget = sigmoid(f[j]), write = tanh(g[j]);
      const float back = held[j] + d_c[j];
      d_a[j] = back * write * in * (1.0f - in);
      d_a[H + j] = back * before[j] * forget * (1.0f - forget);
      d_a[2 * H + j] = back * in * (1.0f - write * write);
      held[j] = back * forget;
    }
  }
};

template <typename U, typename P>
using PlainCellColumns = LstmColumns<U, P, false>;

}  // namespace seq2seq
