// The LSTM's row: lstm_step of ../reference.py and the way back, with no norm, layer norm or rms norm.
#pragma once

#include "lstm_vectors.h"
#include "rows.h"

namespace seq2seq {

template <Norm kNorm, typename P>
struct LstmRow {
  static constexpr int64_t kGates = 4;  // i f g o
  static constexpr int64_t kMoments = 3;  // of the input term, the recurrent term and the cell
  static constexpr bool kHasCell = true;
  static constexpr bool kSameTerms = kNorm == Norm::none;
  static constexpr int64_t kForwardScratch = 1, kBackwardScratch = 5;  // times H

  template <typename V>
  using Vectors = LstmVectors<V>;
  static constexpr int64_t kVectors = Vectors<float*>::kCount;  // times H

  static void forward(const Vectors<const float*> v, const Row<P> row, int64_t H, float eps, float* scratch,
                      Moments* kept, float* c, float* h) {
    const Term<kNorm, P> ih{row.u, v.gain_ih, moments<kNorm>(row.u, 4 * H, eps)};
    const Term<kNorm, P> hh{row.z, v.gain_hh, recurrent_moments<kNorm>(row, 0, 4 * H, eps)};
    float* o = scratch;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const float i = sigmoid(ih(j) + hh(j) + v.bias[j]);
      const float f = sigmoid(ih(H + j) + hh(H + j) + v.bias[H + j]);
      const float g = tanh(ih(2 * H + j) + hh(2 * H + j) + v.bias[2 * H + j]);
      o[j] = sigmoid(ih(3 * H + j) + hh(3 * H + j) + v.bias[3 * H + j]);
      c[j] = f * row.c_before[j] + i * g;
    }
    const Term<kNorm, float> cell{c, v.gain_c, moments<kNorm>(c, H, eps)};
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) h[j] = o[j] * tanh(cell(j) + v.bias_c[j]);
    kept[0] = ih.m;
    kept[1] = hh.m;
    kept[2] = cell.m;
  }

  // carried is dL/dc_t from the steps after, and becomes dL/dc_{t-1}.
  static void backward(const Vectors<const float*> v, const Row<P> row, int64_t H, const Moments* kept, const float* c,
                       const float*, const float* dh, float* carried, float* scratch, P* du, P* dz,
                       const Vectors<float*> sums) {
    const Term<kNorm, P> ih{row.u, v.gain_ih, kept[0]}, hh{row.z, v.gain_hh, kept[1]};
    const Term<kNorm, float> cell{c, v.gain_c, kept[2]};
    float *da = scratch, *d_cell = scratch + 4 * H;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const float o = sigmoid(ih(3 * H + j) + hh(3 * H + j) + v.bias[3 * H + j]);
      const float squashed = tanh(cell(j) + v.bias_c[j]);
      da[3 * H + j] = dh[j] * squashed * o * (1.0f - o);
      d_cell[j] = dh[j] * o * (1.0f - squashed * squashed);
    }
    add(d_cell, H, sums.bias_c);
    back_through_term<kNorm, float>(cell, d_cell, 0, H, sums.gain_c, d_cell);
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const float i = sigmoid(ih(j) + hh(j) + v.bias[j]);
      const float f = sigmoid(ih(H + j) + hh(H + j) + v.bias[H + j]);
      const float g = tanh(ih(2 * H + j) + hh(2 * H + j) + v.bias[2 * H + j]);
      const float d = carried[j] + d_cell[j];
      da[j] = d * g * i * (1.0f - i);
      da[H + j] = d * row.c_before[j] * f * (1.0f - f);
      da[2 * H + j] = d * i * (1.0f - g * g);
      carried[j] = d * f;
    }
    add(da, 4 * H, sums.bias);
    back_through_term<kNorm, P>(ih, da, 0, 4 * H, sums.gain_ih, du);
    if constexpr (!kSameTerms) back_through_term<kNorm, P>(hh, da, 0, 4 * H, sums.gain_hh, dz);
  }
};

}  // namespace seq2seq
