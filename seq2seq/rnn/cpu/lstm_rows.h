// The LSTM's row: lstm_step of ../reference.py with no norm, layer norm or rms norm, which the cell
// state may be without, forward and backward.
#pragma once

#include "rows.h"
#include "vectors.h"

namespace seq2seq {

template <Norm kNorm, typename P, Norm kCellNorm = kNorm>
struct LstmRow {
  static constexpr int64_t kGates = 4;    // i f g o
  static constexpr int64_t kMoments = 3;  // of the input term, the recurrent term and the cell
  static constexpr bool kHasCell = true;
  static constexpr bool kSameTerms = kNorm == Norm::none;
  static constexpr bool kKeepsGates = kNorm == Norm::none;  // with a norm its gradient needs z
  static constexpr int64_t kForwardScratch = 1, kBackwardScratch = 5;  // times H

  template <typename V>
  using Vectors = LstmVectors<V>;
  static constexpr int64_t kVectors = Vectors<float*>::kCount;  // times H

  static void forward(const Vectors<const float*> v, const Row<P> row, int64_t H, float eps,
                      float* scratch, Moments* m, float* c, float* h, P* gates) {
    const Term<kNorm, P> ih{row.u, v.gain_ih, moments<kNorm>(row.u, 4 * H, eps)};
    const Term<kNorm, P> hh{row.z, v.gain_hh, recurrent_moments<kNorm>(row, 0, 4 * H, eps)};
    float* o = scratch;
    if (kKeepsGates && gates != nullptr) {
      activate<true>(v, row, H, ih, hh, c, o, gates);
    } else {
      activate<false>(v, row, H, ih, hh, c, o, gates);
    }
    const Term<kCellNorm, float> cell{c, v.gain_c, moments<kCellNorm>(c, H, eps)};
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) h[j] = o[j] * tanh(cell(j) + v.bias_c[j]);
    m[0] = ih.m;
    m[1] = hh.m;
    m[2] = cell.m;
  }

  // The gates; writes o and c.
  template <bool kKeep>
  static void activate(const Vectors<const float*> v, const Row<P> row, int64_t H,
                       const Term<kNorm, P> ih, const Term<kNorm, P> hh, float* c, float* o,
                       P* gates) {
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const float i = sigmoid(ih(j) + hh(j) + v.bias[j]);
      const float f = sigmoid(ih(H + j) + hh(H + j) + v.bias[H + j]);
      const float g = tanh(ih(2 * H + j) + hh(2 * H + j) + v.bias[2 * H + j]);
      o[j] = sigmoid(ih(3 * H + j) + hh(3 * H + j) + v.bias[3 * H + j]);
      c[j] = f * row.c_before[j] + i * g;
      if constexpr (kKeep) {
        gates[j] = rounded<P>(i);
        gates[H + j] = rounded<P>(f);
        gates[2 * H + j] = rounded<P>(g);
        gates[3 * H + j] = rounded<P>(o[j]);
      }
    }
  }

  // A gate's value: as it was saved, or computed again.
  struct Gates {
    const Vectors<const float*> v;
    const Term<kNorm, P> ih, hh;
    const P* kept;

    ALWAYS_INLINE float sum(int64_t at) const { return ih(at) + hh(at) + v.bias[at]; }
    ALWAYS_INLINE float squashed(int64_t at) const {
      if constexpr (kKeepsGates) return as_float(kept[at]);
      return sigmoid(sum(at));
    }
    ALWAYS_INLINE float written(int64_t at) const {
      if constexpr (kKeepsGates) return as_float(kept[at]);
      return tanh(sum(at));
    }
  };

  // carried is dL/dc_t from the steps after, and becomes dL/dc_{t-1}.
  static void backward(const Vectors<const float*> v, const Row<P> row, int64_t H, const Moments* m,
                       const float* c, const float*, const P* kept, const float* dh, float* carried,
                       float* scratch, P* du, P* dz, const Vectors<float*> sums) {
    const Term<kNorm, P> ih{row.u, v.gain_ih, m[0]}, hh{row.z, v.gain_hh, m[1]};
    const Term<kCellNorm, float> cell{c, v.gain_c, m[2]};
    const Gates gate{v, ih, hh, kept};
    float *da = scratch, *d_cell = scratch + 4 * H;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const float o = gate.squashed(3 * H + j);
      const float squashed = tanh(cell(j) + v.bias_c[j]);
      da[3 * H + j] = dh[j] * squashed * o * (1.0f - o);
      d_cell[j] = dh[j] * o * (1.0f - squashed * squashed);
    }
    add(d_cell, H, sums.bias_c);
    back_through_term<kCellNorm, float>(cell, d_cell, 0, H, sums.gain_c, d_cell);
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const float i = gate.squashed(j), f = gate.squashed(H + j), g = gate.written(2 * H + j);
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

template <Norm kNorm, typename P>
using PlainCellRow = LstmRow<kNorm, P, Norm::none>;

}  // namespace seq2seq
