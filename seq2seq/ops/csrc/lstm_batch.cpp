// The LSTM with batch norm over all time steps: forward and backward. Equations and symbols as lstm_step in
// ../reference.py. Every feature is normalised over the rows of a step and has nothing to do with the others until the
// next product: threads share the features, kWidth of them at a time.
//
// Rows are packed as in lstm.cpp. U is the type of the input term, P that of the products, float or bfloat16.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <tuple>

#include "elementwise.h"
#include "packed.h"
#include "products.h"

namespace seq2seq {
namespace {

constexpr int64_t kGates = 4;  // i f g o
constexpr int64_t kWidth = 32;  // features that a thread takes at a time
constexpr int64_t kTerms = 2 * kGates + 1;  // normalised features for each hidden one: of input, recurrence and cell

// What is the same at every step. Of vectors that the layer does not have there are zeros.
struct Layer {
  int64_t hidden;
  float eps;
  bool normalises_input;  // else u is the whole input term already
  const float* gain_ih;   // (4H)
  const float* gain_hh;   // (4H)
  const float* bias;      // (4H)
  const float* gain_c;    // (H)
  const float* bias_c;    // (H)
};

struct LayerGradients {
  float* gain_ih;
  float* gain_hh;
  float* bias;
  float* gain_c;
  float* bias_c;
};

// One step of `rows` rows. z is null where there is no h_{t-1}, c_before where there is no c_{t-1}.
template <typename U, typename P>
struct Step {
  int64_t rows;
  bool by_batch;  // normalised by the step's own statistics, not by given ones
  const U* u;     // (rows, 4H)
  const P* z;     // (rows, 4H)
  const float* c_before;  // (rows, H)
  float* c;               // (rows, H)
  float* mean;            // (9H): given, or filled in
  float* var;             // (9H), biased
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
  const Step<U, P> s;
  const int64_t first, width;
  Columns ih[kGates], hh[kGates], c;

  Block(const Layer& layer, const Step<U, P>& step, int64_t first_feature, int64_t features)
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
void forward_block(const Layer& l, const Step<U, P>& s, int64_t first, int64_t width, float* h) {
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
    float* held = h + r * H + first;  // o, until the cell's statistics are known
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
    float* held = h + r * H + first;
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

// dh, dc (rows, H): of h_t whole, of c_t from step t+1; dc becomes that of c_{t-1}. Writes du, dz (rows, 4H).
// da (rows, 4H) and dn (rows, H) are scratch: the gradients of the gates' summed inputs, and of the normalised cell.
template <typename U, typename P>
void backward_block(const Layer& l, const Step<U, P>& s, int64_t first, int64_t width, const float* dh, float* dc,
                    float* da, float* dn, U* du, P* dz, const LayerGradients& sums) {
  Block<U, P> block(l, s, first, width);
  const int64_t H = l.hidden;
  block.find_terms(false);
  block.find_cell(false);
  const float *gain_c = l.gain_c + first, *bias_c = l.bias_c + first;
  float i[kWidth], f[kWidth], g[kWidth], o[kWidth];
  float sum_d[kWidth] = {}, sum_dn[kWidth] = {};
  for (int64_t r = 0; r < s.rows; ++r) {
    block.summed(3, r, o);
    const float *c = s.c + r * H + first, *d_h = dh + r * H + first;
    float *d_o = da + r * kGates * H + 3 * H + first, *d_n = dn + r * H + first;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
      const float normal = block.c(c[j], j), gate = sigmoid(o[j]), squashed = tanh(gain_c[j] * normal + bias_c[j]);
      const float d = d_h[j] * gate * (1.0f - squashed * squashed);
      d_o[j] = d_h[j] * squashed * gate * (1.0f - gate);
      d_n[j] = d;
      sum_d[j] += d;
      sum_dn[j] += d * normal;
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
    const float *c = s.c + r * H + first, *d_n = dn + r * H + first;
    const float* c_before = s.c_before == nullptr ? nullptr : s.c_before + r * H + first;
    float *d_c = dc + r * H + first, *d_a = da + r * kGates * H + first;
    float before[kWidth] = {};
    if (c_before != nullptr) std::copy(c_before, c_before + width, before);
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
      const float in = sigmoid(i[j]), forget = sigmoid(f[j]), write = tanh(g[j]);
      const float d = d_c[j] + gain_c[j] * through_cell(d_n[j], block.c(c[j], j), block.c.scale[j], j);
      d_a[j] = d * write * in * (1.0f - in);
      d_a[H + j] = d * before[j] * forget * (1.0f - forget);
      d_a[2 * H + j] = d * in * (1.0f - write * write);
      d_c[j] = d * forget;
    }
  }
  for (int64_t k = 0; k < kGates; ++k) {
    const int64_t at = k * H + first;
    float sum_a[kWidth] = {}, sum_ih[kWidth] = {}, sum_hh[kWidth] = {};
    for (int64_t r = 0; r < s.rows; ++r) {
      const float* d_a = da + r * kGates * H + at;
      const U* u = s.u + r * kGates * H + at;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) {
        sum_a[j] += d_a[j];
        sum_ih[j] += d_a[j] * block.ih[k](as_float(u[j]), j);
      }
      if (s.z == nullptr) continue;
      const P* z = s.z + r * kGates * H + at;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) sum_hh[j] += d_a[j] * block.hh[k](as_float(z[j]), j);
    }
    for (int64_t j = 0; j < width; ++j) {
      sums.bias[at + j] += sum_a[j];
      sums.gain_ih[at + j] += sum_ih[j];
      sums.gain_hh[at + j] += sum_hh[j];
    }
    const BackColumns through_ih(sum_a, sum_ih, width, s.rows, s.by_batch);
    const BackColumns through_hh(sum_a, sum_hh, width, s.rows, s.by_batch);
    const float *gain_ih = l.gain_ih + at, *gain_hh = l.gain_hh + at;
    for (int64_t r = 0; r < s.rows; ++r) {
      const float* d_a = da + r * kGates * H + at;
      const U* u = s.u + r * kGates * H + at;
      U* d_u = du + r * kGates * H + at;
      if (l.normalises_input) {
#pragma omp simd
        for (int64_t j = 0; j < width; ++j)
          d_u[j] = rounded<U>(gain_ih[j] * through_ih(d_a[j], block.ih[k](as_float(u[j]), j), block.ih[k].scale[j], j));
      } else {
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) d_u[j] = rounded<U>(d_a[j]);
      }
      if (s.z == nullptr) continue;
      const P* z = s.z + r * kGates * H + at;
      P* d_z = dz + r * kGates * H + at;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j)
        d_z[j] = rounded<P>(gain_hh[j] * through_hh(d_a[j], block.hh[k](as_float(z[j]), j), block.hh[k].scale[j], j));
    }
  }
}

// -- all features and steps ----------------------------------------------------------------------------------------

template <typename F>
void for_blocks(int64_t rows, int64_t hidden, const F& each) {
  const int64_t blocks = (hidden + kWidth - 1) / kWidth;
  const int64_t grain = std::max<int64_t>(1, kThreadElements / (rows * kWidth));
  at::parallel_for(0, blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) each(b * kWidth, std::min(kWidth, hidden - b * kWidth));
  });
}

struct Cell {
  Vector gain_ih, gain_hh, bias, gain_c, bias_c;
  Layer layer;

  Cell(int64_t hidden, double eps, const OptionalTensor& ih, const OptionalTensor& hh, const OptionalTensor& b,
       const OptionalTensor& c, const OptionalTensor& bc)
      : gain_ih(ih, kGates * hidden), gain_hh(hh, kGates * hidden), bias(b, kGates * hidden), gain_c(c, hidden),
        bias_c(bc, hidden), layer{hidden, static_cast<float>(eps), ih.has_value(), gain_ih.data(), gain_hh.data(),
                                  bias.data(), gain_c.data(), bias_c.data()} {}
};

using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename U, typename P>
Outputs forward(const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0, const OptionalTensor& c_0,
                const Cell& cell, const Tensor& given_mean, const Tensor& given_var, at::IntArrayRef batch_sizes,
                int64_t batch_steps, bool packed, bool save) {
  const int64_t H = cell.layer.hidden, N = u.size(0), B = batch_sizes[0], steps = batch_sizes.size();
  const auto floats = u.options().dtype(at::kFloat);
  const Tensor output = at::empty({N, H}, floats), z_all = at::zeros({save ? N : 0, kGates * H}, weight_hh.options());
  const Tensor c_all = at::empty({save ? N : B, H}, floats), mean = given_mean.clone(), var = given_var.clone();
  const Product product(weight_hh, B, packed);

  Tensor h = h_0 ? h_0->to(weight_hh.scalar_type()) : Tensor();
  const float* c_before = c_0 ? c_0->template const_data_ptr<float>() : nullptr;
  int64_t start = 0;
  for (int64_t t = 0; t < steps; ++t) {
    const int64_t rows = batch_sizes[t];
    const Tensor z = h.defined() ? product(h.slice(0, 0, rows)) : Tensor();
    if (save && z.defined()) z_all.slice(0, start, start + rows).copy_(z);
    const Step<U, P> step{rows, t < batch_steps, u.const_data_ptr<U>() + start * kGates * H,
                          z.defined() ? z.template const_data_ptr<P>() : nullptr, c_before,
                          c_all.mutable_data_ptr<float>() + (save ? start * H : 0),
                          mean.mutable_data_ptr<float>() + t * kTerms * H,
                          var.mutable_data_ptr<float>() + t * kTerms * H};
    float* h_step = output.mutable_data_ptr<float>() + start * H;
    for_blocks(rows, H, [&](int64_t first, int64_t width) { forward_block(cell.layer, step, first, width, h_step); });
    h = output.slice(0, start, start + rows).to(weight_hh.scalar_type());
    c_before = step.c;
    start += rows;
  }
  const Tensor h_n = last_rows(output, batch_sizes);
  if (!save) return {output, h_n, c_all, z_all, at::empty({0, H}, floats), mean, var};
  return {output, h_n, last_rows(c_all, batch_sizes), z_all, c_all, mean, var};
}

struct Incoming {
  Tensor output;  // (N, H)
  Tensor h_n;     // (B, H)
  Tensor c_n;     // (B, H)
};

struct Kept {
  Tensor u;  // (N, 4H)
  Tensor weight_hh;
  OptionalTensor h_0, c_0;
  Tensor output;     // (N, H)
  Tensor z;          // (N, 4H)
  Tensor c;          // (N, H)
  Tensor mean, var;  // (T, 9H)
};

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename U, typename P>
Gradients backward(const Incoming& d, const Kept& kept, const Cell& cell, at::IntArrayRef batch_sizes,
                   int64_t batch_steps, bool packed, bool weight_grad) {
  const int64_t H = cell.layer.hidden, B = batch_sizes[0];
  const auto floats = kept.u.options().dtype(at::kFloat);
  const Tensor du = at::empty_like(kept.u), dz = at::empty_like(kept.z), dc = d.c_n.clone(), dh = d.h_n.clone();
  const Tensor da = at::empty({B, kGates * H}, floats), dn = at::empty({B, H}, floats);
  const Tensor sums = at::zeros({14 * H}, floats);
  float* s = sums.mutable_data_ptr<float>();
  const LayerGradients gradients{s, s + 4 * H, s + 8 * H, s + 12 * H, s + 13 * H};
  const Product product(kept.weight_hh.t().contiguous(), B, packed);
  const std::vector<int64_t> starts = offsets(batch_sizes);
  for (int64_t t = static_cast<int64_t>(batch_sizes.size()) - 1; t >= 0; --t) {
    const int64_t rows = batch_sizes[t], start = starts[t], at = start * kGates * H;
    const bool has_z = t > 0 || kept.h_0;
    const Step<U, P> step{rows, t < batch_steps, kept.u.const_data_ptr<U>() + at,
                          has_z ? kept.z.const_data_ptr<P>() + at : nullptr,
                          t > 0 ? kept.c.const_data_ptr<float>() + starts[t - 1] * H
                                : (kept.c_0 ? kept.c_0->const_data_ptr<float>() : nullptr),
                          kept.c.data_ptr<float>() + start * H, kept.mean.data_ptr<float>() + t * kTerms * H,
                          kept.var.data_ptr<float>() + t * kTerms * H};
    const Tensor dh_step = dh.slice(0, 0, rows).add_(d.output.slice(0, start, start + rows));
    for_blocks(rows, H, [&](int64_t first, int64_t width) {
      backward_block(cell.layer, step, first, width, dh_step.const_data_ptr<float>(), dc.mutable_data_ptr<float>(),
                     da.mutable_data_ptr<float>(), dn.mutable_data_ptr<float>(), du.mutable_data_ptr<U>() + at,
                     dz.mutable_data_ptr<P>() + at, gradients);
    });
    if (has_z) dh.slice(0, 0, rows).copy_(product(dz.slice(0, start, start + rows)));
  }
  Tensor dweight = at::empty({0}, kept.weight_hh.options());
  if (weight_grad) {
    const Tensor before = states_before(kept.output.to(kept.weight_hh.scalar_type()), kept.h_0, batch_sizes);
    dweight = at::mm((kept.h_0 ? dz : dz.slice(0, B)).t(), before);
  }
  const std::vector<Tensor> v = sums.split_with_sizes({4 * H, 4 * H, 4 * H, H, H});
  return {du, dweight, kept.h_0 ? dh : at::zeros_like(dh), dc, v[0].clone(), v[1].clone(), v[2].clone(), v[3].clone(),
          v[4].clone()};
}

// -- operators -----------------------------------------------------------------------------------------------------

template <typename F>
auto with_types(at::ScalarType input, at::ScalarType products, const F& run) {
  TORCH_CHECK(input == at::kFloat || input == products, "expected an input term in float or the products' type, got ",
              input);
  if (products == at::kFloat) return run.template operator()<float, float>();
  TORCH_CHECK(products == at::kBFloat16, "expected products in float or bfloat16, got ", products);
  return input == at::kFloat ? run.template operator()<float, BFloat16>()
                             : run.template operator()<BFloat16, BFloat16>();
}

Outputs lstm_batch(const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0, const OptionalTensor& c_0,
                   const OptionalTensor& gain_ih, const OptionalTensor& gain_hh, const OptionalTensor& bias,
                   const OptionalTensor& gain_c, const OptionalTensor& bias_c, const Tensor& mean, const Tensor& var,
                   at::IntArrayRef batch_sizes, int64_t batch_steps, double eps, bool packed, bool save) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const Cell cell(weight_hh.size(1), eps, gain_ih, gain_hh, bias, gain_c, bias_c);
  return with_types(u.scalar_type(), weight_hh.scalar_type(), [&]<typename U, typename P>() {
    return forward<U, P>(u.contiguous(), weight_hh, contiguous(h_0), contiguous(c_0), cell, mean.contiguous(),
                         var.contiguous(), batch_sizes, batch_steps, packed, save);
  });
}

Gradients lstm_batch_backward(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n, const Tensor& u,
    const Tensor& weight_hh, const OptionalTensor& h_0, const OptionalTensor& c_0, const OptionalTensor& gain_ih,
    const OptionalTensor& gain_hh, const OptionalTensor& bias, const OptionalTensor& gain_c,
    const OptionalTensor& bias_c, const Tensor& output, const Tensor& z, const Tensor& c, const Tensor& mean,
    const Tensor& var, at::IntArrayRef batch_sizes, int64_t batch_steps, double eps, bool packed, bool weight_grad) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const int64_t H = weight_hh.size(1);
  const Cell cell(H, eps, gain_ih, gain_hh, bias, gain_c, bias_c);
  const Incoming incoming{float_or_zeros(d_output, {u.size(0), H}, u), float_or_zeros(d_h_n, {batch_sizes[0], H}, u),
                          float_or_zeros(d_c_n, {batch_sizes[0], H}, u)};
  const Kept kept{u.contiguous(), weight_hh, contiguous(h_0), contiguous(c_0), output, z, c, mean, var};
  return with_types(u.scalar_type(), weight_hh.scalar_type(), [&]<typename U, typename P>() {
    return backward<U, P>(incoming, kept, cell, batch_sizes, batch_steps, packed, weight_grad);
  });
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "lstm_batch(Tensor u, Tensor weight_hh, Tensor? h_0, Tensor? c_0, Tensor? gain_ih, Tensor? gain_hh, "
      "Tensor? bias, Tensor? gain_c, Tensor? bias_c, Tensor mean, Tensor var, int[] batch_sizes, int batch_steps, "
      "float eps, bool packed, bool save) -> (Tensor output, Tensor h_n, Tensor c_n, Tensor z, Tensor c, Tensor mean, "
      "Tensor var)");
  library.def(
      "lstm_batch_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor u, Tensor weight_hh, Tensor? h_0, "
      "Tensor? c_0, Tensor? gain_ih, Tensor? gain_hh, Tensor? bias, Tensor? gain_c, Tensor? bias_c, Tensor output, "
      "Tensor z, Tensor c, Tensor mean, Tensor var, int[] batch_sizes, int batch_steps, float eps, bool packed, "
      "bool weight_grad) -> (Tensor u, Tensor weight_hh, Tensor h_0, Tensor c_0, Tensor gain_ih, Tensor gain_hh, "
      "Tensor bias, Tensor gain_c, Tensor bias_c)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("lstm_batch", &seq2seq::lstm_batch);
  library.impl("lstm_batch_backward", &seq2seq::lstm_batch_backward);
}
