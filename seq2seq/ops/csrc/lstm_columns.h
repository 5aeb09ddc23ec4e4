// The LSTM's features with batch norm: lstm_step of ../reference.py and the way back. Every feature is normalised over
// the rows of a step and has nothing to do with the others until the next product: kWidth of them at a time.
#pragma once

#include "lstm_vectors.h"
#include "steps.h"

namespace seq2seq {

constexpr int64_t kGates = 4;   // i f g o
constexpr int64_t kWidth = 32;  // features that a thread takes at a time
constexpr int64_t kTerms = 2 * kGates + 1;  // normalised features for each hidden one: of input, recurrence and cell

// What is the same at every step.
struct Layer : LstmVectors<const float*> {
  int64_t hidden;
  float eps;
  bool normalises_input;  // else u is the whole input term already

  Layer(const float* vectors, int64_t H, float epsilon, bool input)
      : LstmVectors(vectors, H), hidden(H), eps(epsilon), normalises_input(input) {}
};

using LayerGradients = LstmVectors<float*>;

// A step, and its statistics.
template <typename U, typename P>
struct ColumnStep : Step<U, P> {
  bool by_batch;  // normalised by the step's own statistics, not by given ones
  float* mean;    // (9H): given, or filled in
  float* var;     // (9H), biased
};

// Mean and 1 / sqrt(var + eps) of up to kWidth features side by side; by default N(v) = 0.
struct Columns {
  float mean[kWidth] = {};
  float scale[kWidth] = {};

  ALWAYS_INLINE float operator()(float v, int64_t j) const { return (v - mean[j]) * scale[j]; }
};

// The statistics of `width` features of v (rows, stride): the step's own are computed and written down.
template <typename V>
Columns columns(const V* v, int64_t rows, int64_t stride, int64_t width, bool own, float* mean, float* var, float eps) {
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

// `width` features of a step, from hidden feature `first` on.
template <typename U, typename P>
struct Block {
  const Layer l;
  const ColumnStep<U, P> s;
  const int64_t first, width;
  Columns ih[kGates], hh[kGates], c;

  Block(const Layer& layer, const ColumnStep<U, P>& step, int64_t first_feature, int64_t features)
      : l(layer), s(step), first(first_feature), width(features) {}

  void find_terms(bool own) {
    const int64_t H = l.hidden;
    for (int64_t k = 0; k < kGates; ++k) {
      const int64_t at = k * H + first;
      if (l.normalises_input) ih[k] = columns(s.u + at, s.rows, kGates * H, width, own, s.mean + at, s.var + at, l.eps);
      if (s.z != nullptr)
        hh[k] = columns(s.z + at, s.rows, kGates * H, width, own, s.mean + kGates * H + at, s.var + kGates * H + at,
                        l.eps);
    }
  }

  void find_cell(bool own) {
    const int64_t at = 2 * kGates * l.hidden + first;
    c = columns(s.c + first, s.rows, l.hidden, width, own, s.mean + at, s.var + at, l.eps);
  }

  // A gate's summed inputs in row r, for all features of the block.
  ALWAYS_INLINE void summed(int64_t k, int64_t r, float* into) const {
    const int64_t H = l.hidden, at = k * H + first;
    const U* u = s.u + r * kGates * H + at;
    const float *gain_ih = l.gain_ih + at, *gain_hh = l.gain_hh + at, *bias = l.bias + at;
    if (l.normalises_input) {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) into[j] = gain_ih[j] * ih[k](as_float(u[j]), j) + bias[j];
    } else {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) into[j] = as_float(u[j]) + bias[j];
    }
    if (s.z == nullptr) return;
    const P* z = s.z + r * kGates * H + at;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) into[j] += gain_hh[j] * hh[k](as_float(z[j]), j);
  }
};

// Writes c and h (rows, H).
template <typename U, typename P>
void forward_block(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width) {
  Block<U, P> block(l, s, first, width);
  const int64_t H = l.hidden;
  block.find_terms(s.by_batch);
  float i[kWidth], f[kWidth], g[kWidth], o[kWidth];
  for (int64_t r = 0; r < s.rows; ++r) {
    block.summed(0, r, i);
    block.summed(1, r, f);
    block.summed(2, r, g);
    block.summed(3, r, o);
    float* c = s.c + r * H + first;
    float* held = s.h + r * H + first;  // o, until the cell's statistics are known
    if (s.c_before != nullptr) {
      const float* c_before = s.c_before + r * H + first;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) c[j] = sigmoid(f[j]) * c_before[j] + sigmoid(i[j]) * tanh(g[j]);
    } else {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) c[j] = sigmoid(i[j]) * tanh(g[j]);
    }
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) held[j] = sigmoid(o[j]);
  }
  block.find_cell(s.by_batch);
  const float *gain_c = l.gain_c + first, *bias_c = l.bias_c + first;
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* c = s.c + r * H + first;
    float* held = s.h + r * H + first;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) held[j] *= tanh(gain_c[j] * block.c(c[j], j) + bias_c[j]);
  }
}

// What comes back through N: scale * (d - mean(d) - N(v) * mean(d N(v))), the means over rows; scale * d where the
// statistics were given. All of `width` features.
struct BackColumns {
  float mean_d[kWidth] = {};
  float mean_dn[kWidth] = {};

  BackColumns(const float* sum_d, const float* sum_dn, int64_t width, int64_t rows, bool by_batch) {
    if (!by_batch) return;
    for (int64_t j = 0; j < width; ++j) {
      mean_d[j] = sum_d[j] / rows;
      mean_dn[j] = sum_dn[j] / rows;
    }
  }
  ALWAYS_INLINE float operator()(float d, float normal, float scale, int64_t j) const {
    return scale * (d - mean_d[j] - normal * mean_dn[j]);
  }
};

// Where a step's gradients go and come from; all of it is (rows, ...).
template <typename U, typename P>
struct BlockGradients {
  const float* dh;  // (H): of h_t, whole
  float* dc;        // (H): of c_t from step t+1; becomes that of c_{t-1}
  float* da;        // (4H): of the gates' summed inputs
  float* dn;        // (H): of the normalised cell
  U* du;            // (4H)
  P* dz;            // (4H)
};

// Through h and the cell's norm, down to dc and da.
template <typename U, typename P>
void backward_cell(const Block<U, P>& block, const BlockGradients<U, P>& d, const LayerGradients& sums) {
  const ColumnStep<U, P>& s = block.s;
  const int64_t H = block.l.hidden, first = block.first, width = block.width;
  const float *gain_c = block.l.gain_c + first, *bias_c = block.l.bias_c + first;
  float i[kWidth], f[kWidth], g[kWidth], o[kWidth];
  float sum_d[kWidth] = {}, sum_dn[kWidth] = {};
  for (int64_t r = 0; r < s.rows; ++r) {
    block.summed(3, r, o);
    const float *c = s.c + r * H + first, *d_h = d.dh + r * H + first;
    float *d_o = d.da + r * kGates * H + 3 * H + first, *d_n = d.dn + r * H + first;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
      const float normal = block.c(c[j], j), gate = sigmoid(o[j]), squashed = tanh(gain_c[j] * normal + bias_c[j]);
      const float back = d_h[j] * gate * (1.0f - squashed * squashed);
      d_o[j] = d_h[j] * squashed * gate * (1.0f - gate);
      d_n[j] = back;
      sum_d[j] += back;
      sum_dn[j] += back * normal;
    }
  }
  for (int64_t j = 0; j < width; ++j) {
    sums.gain_c[first + j] += sum_dn[j];
    sums.bias_c[first + j] += sum_d[j];
  }
  const BackColumns through_cell(sum_d, sum_dn, width, s.rows, s.by_batch);
  for (int64_t r = 0; r < s.rows; ++r) {
    block.summed(0, r, i);
    block.summed(1, r, f);
    block.summed(2, r, g);
    const float *c = s.c + r * H + first, *d_n = d.dn + r * H + first;
    float *d_c = d.dc + r * H + first, *d_a = d.da + r * kGates * H + first;
    float before[kWidth] = {};
    if (s.c_before != nullptr) std::copy_n(s.c_before + r * H + first, width, before);
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
      const float in = sigmoid(i[j]), forget = sigmoid(f[j]), write = tanh(g[j]);
      const float back = d_c[j] + gain_c[j] * through_cell(d_n[j], block.c(c[j], j), block.c.scale[j], j);
      d_a[j] = back * write * in * (1.0f - in);
      d_a[H + j] = back * before[j] * forget * (1.0f - forget);
      d_a[2 * H + j] = back * in * (1.0f - write * write);
      d_c[j] = back * forget;
    }
  }
}

// From da to du and dz of gate k, through their norms.
template <typename U, typename P>
void backward_gate(const Block<U, P>& block, int64_t k, const BlockGradients<U, P>& d, const LayerGradients& sums) {
  const ColumnStep<U, P>& s = block.s;
  const Columns &ih = block.ih[k], &hh = block.hh[k];
  const int64_t stride = kGates * block.l.hidden, at = k * block.l.hidden + block.first, width = block.width;
  float sum_a[kWidth] = {}, sum_ih[kWidth] = {}, sum_hh[kWidth] = {};
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* d_a = d.da + r * stride + at;
    const U* u = s.u + r * stride + at;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
      sum_a[j] += d_a[j];
      sum_ih[j] += d_a[j] * ih(as_float(u[j]), j);
    }
    if (s.z == nullptr) continue;
    const P* z = s.z + r * stride + at;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) sum_hh[j] += d_a[j] * hh(as_float(z[j]), j);
  }
  for (int64_t j = 0; j < width; ++j) {
    sums.bias[at + j] += sum_a[j];
    sums.gain_ih[at + j] += sum_ih[j];
    sums.gain_hh[at + j] += sum_hh[j];
  }
  const BackColumns through_ih(sum_a, sum_ih, width, s.rows, s.by_batch);
  const BackColumns through_hh(sum_a, sum_hh, width, s.rows, s.by_batch);
  const float *gain_ih = block.l.gain_ih + at, *gain_hh = block.l.gain_hh + at;
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* d_a = d.da + r * stride + at;
    const U* u = s.u + r * stride + at;
    U* d_u = d.du + r * stride + at;
    if (block.l.normalises_input) {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j)
        d_u[j] = rounded<U>(gain_ih[j] * through_ih(d_a[j], ih(as_float(u[j]), j), ih.scale[j], j));
    } else {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) d_u[j] = rounded<U>(d_a[j]);
    }
    if (s.z == nullptr) continue;
    const P* z = s.z + r * stride + at;
    P* d_z = d.dz + r * stride + at;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j)
      d_z[j] = rounded<P>(gain_hh[j] * through_hh(d_a[j], hh(as_float(z[j]), j), hh.scale[j], j));
  }
}

template <typename U, typename P>
void backward_block(const Layer& l, const ColumnStep<U, P>& s, int64_t first, int64_t width,
                    const BlockGradients<U, P>& d, const LayerGradients& sums) {
  Block<U, P> block(l, s, first, width);
  block.find_terms(false);
  block.find_cell(false);
  backward_cell(block, d, sums);
  for (int64_t k = 0; k < kGates; ++k) backward_gate(block, k, d, sums);
}

}  // namespace seq2seq
