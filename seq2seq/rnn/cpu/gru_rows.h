// The GRU's row: gru_step of ../reference.py with separate terms, forward and backward. The (r z)
// and the n part of each term are normalised separately.
#pragma once

#include "rows.h"
#include "vectors.h"

namespace seq2seq {

template <Norm kNorm, typename P>
struct GruRow {
  static constexpr int64_t kGates = 3;  // r z n
  static constexpr int64_t kMoments =
      4;  // of the input term's (r z) and n, of the recurrent term's
  static constexpr bool kHasCell = false;
  static constexpr bool kKeepsGates = false;
  static constexpr bool kSameTerms = false;  // r acts on the recurrent term alone
  static constexpr int64_t kForwardScratch = 0, kBackwardScratch = 4;  // times H

  template <typename V>
  using Vectors = GruVectors<V>;
  static constexpr int64_t kVectors = Vectors<float*>::kCount;  // times H

  static void forward(const Vectors<const float*> v, const Row<P> row, int64_t H, float eps, float*,
                      Moments* m, float*, float* h, P*) {
    const Term<kNorm, P> ih_gates{row.u, v.gain_ih, moments<kNorm>(row.u, 2 * H, eps)};
    const Term<kNorm, P> ih_new{row.u, v.gain_ih, moments<kNorm>(row.u + 2 * H, H, eps)};
    const Term<kNorm, P> hh_gates{row.z, v.gain_hh, recurrent_moments<kNorm>(row, 0, 2 * H, eps)};
    const Term<kNorm, P> hh_new{row.z, v.gain_hh, recurrent_moments<kNorm>(row, 2 * H, H, eps)};
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const int64_t z_at = H + j, n_at = 2 * H + j;
      const float r = sigmoid(ih_gates(j) + v.bias_ih[j] + hh_gates(j) + v.bias_hh[j]);
      const float z = sigmoid(ih_gates(z_at) + v.bias_ih[z_at] + hh_gates(z_at) + v.bias_hh[z_at]);
      const float n = tanh(ih_new(n_at) + v.bias_ih[n_at] + r * (hh_new(n_at) + v.bias_hh[n_at]));
      h[j] = (1.0f - z) * n + z * row.h_before[j];
    }
    m[0] = ih_gates.m;
    m[1] = ih_new.m;
    m[2] = hh_gates.m;
    m[3] = hh_new.m;
  }

  // carried becomes the part of dL/dh_{t-1} that does not pass through W_hh; what it was is in dh
  // already.
  static void backward(const Vectors<const float*> v, const Row<P> row, int64_t H, const Moments* m,
                       const float*, const float*, const P*, const float* dh, float* carried,
                       float* scratch, P* du, P* dz, const Vectors<float*> sums) {
    const Term<kNorm, P> ih_gates{row.u, v.gain_ih, m[0]}, ih_new{row.u, v.gain_ih, m[1]};
    const Term<kNorm, P> hh_gates{row.z, v.gain_hh, m[2]}, hh_new{row.z, v.gain_hh, m[3]};
    float *da = scratch,
          *da_hh = scratch + H;  // dL/dy_ih (3H), and dL/dy_hh, of which the n part alone differs
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const int64_t z_at = H + j, n_at = 2 * H + j;
      const float r = sigmoid(ih_gates(j) + v.bias_ih[j] + hh_gates(j) + v.bias_hh[j]);
      const float z = sigmoid(ih_gates(z_at) + v.bias_ih[z_at] + hh_gates(z_at) + v.bias_hh[z_at]);
      const float y_hh = hh_new(n_at) + v.bias_hh[n_at];
      const float n = tanh(ih_new(n_at) + v.bias_ih[n_at] + r * y_hh);
      const float d_n = dh[j] * (1.0f - z) * (1.0f - n * n);
      da[j] = d_n * y_hh * r * (1.0f - r);
      da[z_at] = dh[j] * (row.h_before[j] - n) * z * (1.0f - z);
      da[n_at] = d_n;
      da_hh[n_at] = d_n * r;
      carried[j] = dh[j] * z;
    }
    add(da, 3 * H, sums.bias_ih);
    add(da, 2 * H, sums.bias_hh);
    add(da_hh + 2 * H, H, sums.bias_hh + 2 * H);
    back_through_term<kNorm, P>(ih_gates, da, 0, 2 * H, sums.gain_ih, du);
    back_through_term<kNorm, P>(ih_new, da, 2 * H, H, sums.gain_ih, du);
    back_through_term<kNorm, P>(hh_gates, da, 0, 2 * H, sums.gain_hh, dz);
    back_through_term<kNorm, P>(hh_new, da_hh, 2 * H, H, sums.gain_hh, dz);
  }
};

}  // namespace seq2seq
