// The LSTM with no norm, layer norm or rms norm over all time steps: forward and backward. Equations and symbols as
// lstm_step in ../reference.py. Between two products there is one pass over the rows that are still alive.
//
// Rows are packed (torch's PackedSequence): step t is the next batch_sizes[t] rows of N in all, B of them at first.
// H hidden features. P is the type of the products, float or bfloat16; states and norms are float.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <tuple>

#include "norms.h"
#include "packed.h"
#include "products.h"

namespace seq2seq {
namespace {

constexpr int64_t kGates = 4;  // i f g o

// What normalising a row took: of the input term, the recurrent term and the cell.
struct RowMoments {
  Moments ih, hh, c;
};
constexpr int64_t kKept = sizeof(RowMoments) / sizeof(float);

// The vectors of the cell. Gains are read where there is a norm.
struct Vectors {
  int64_t hidden;
  float eps;
  const float* gain_ih;  // (4H)
  const float* gain_hh;  // (4H)
  const float* bias;     // (4H), both biases in one
  const float* gain_c;   // (H)
  const float* bias_c;   // (H)
};

// Sums over rows: the gradients of Vectors. Each thread has its own.
struct VectorGradients {
  float* gain_ih;
  float* gain_hh;
  float* bias;
  float* gain_c;
  float* bias_c;
};

template <Norm kNorm, typename P>
struct Row {
  const P* u;  // (4H)
  const P* z;  // (4H)
  RowMoments m;

  ALWAYS_INLINE float normal_ih(int64_t at) const { return m.ih(as_float(u[at])); }
  ALWAYS_INLINE float normal_hh(int64_t at) const { return m.hh(as_float(z[at])); }

  // A gate's summed input.
  ALWAYS_INLINE float summed(const Vectors& v, int64_t at) const {
    if constexpr (kNorm == Norm::none) return as_float(u[at]) + as_float(z[at]) + v.bias[at];
    return v.gain_ih[at] * normal_ih(at) + v.gain_hh[at] * normal_hh(at) + v.bias[at];
  }
};

template <Norm kNorm>
ALWAYS_INLINE float normal_cell(const Vectors& v, const Moments& m, float c, int64_t j) {
  if constexpr (kNorm == Norm::none) return c;
  return v.gain_c[j] * m(c) + v.bias_c[j];
}

// c may be where c_before is. o (H) is scratch.
template <Norm kNorm, typename P>
void forward_row(const Vectors v, Row<kNorm, P>& row_out, bool has_z, const float* c_before, float* o, float* c,
                 float* h) {
  const int64_t H = v.hidden;
  Row<kNorm, P> row = row_out;  // a copy, as every argument: pointers read once let the loops become vectors
  row.m.ih = moments<kNorm>(row.u, kGates * H, v.eps);
  row.m.hh = has_z ? moments<kNorm>(row.z, kGates * H, v.eps) : Moments{0.0f, 0.0f};
#pragma omp simd
  for (int64_t j = 0; j < H; ++j) {
    const float i = sigmoid(row.summed(v, j));
    const float f = sigmoid(row.summed(v, H + j));
    const float g = tanh(row.summed(v, 2 * H + j));
    o[j] = sigmoid(row.summed(v, 3 * H + j));
    c[j] = f * c_before[j] + i * g;
  }
  row.m.c = moments<kNorm>(c, H, v.eps);
#pragma omp simd
  for (int64_t j = 0; j < H; ++j) h[j] = o[j] * tanh(normal_cell<kNorm>(v, row.m.c, c[j], j));
  row_out.m = row.m;
}

// dh, dc (H): of h_t whole, of c_t from step t+1. Writes du, dz (4H), the same memory without a norm; dc becomes that
// of c_{t-1}. da (4H) and dn (H) are scratch: the gradients of the gates' summed inputs, and of N(c).
template <Norm kNorm, typename P>
void backward_row(const Vectors v, const Row<kNorm, P> row, const float* c_before, const float* c, const float* dh,
                  float* dc, float* da, float* dn, P* du, P* dz, const VectorGradients sums) {
  const int64_t H = v.hidden;
  float sum_d = 0.0f, sum_dn = 0.0f;
#pragma omp simd reduction(+ : sum_d, sum_dn)
  for (int64_t j = 0; j < H; ++j) {
    const float o = sigmoid(row.summed(v, 3 * H + j));
    const float squashed = tanh(normal_cell<kNorm>(v, row.m.c, c[j], j));
    da[3 * H + j] = dh[j] * squashed * o * (1.0f - o);
    float d = dh[j] * o * (1.0f - squashed * squashed);
    if constexpr (kNorm != Norm::none) {
      const float normal = row.m.c(c[j]);
      sums.gain_c[j] += d * normal;
      sums.bias_c[j] += d;
      d *= v.gain_c[j];
      sum_d += d;
      sum_dn += d * normal;
    }
    dn[j] = d;
  }
  const Backward through_cell = backward<kNorm>(sum_d, sum_dn, H, row.m.c.scale);
#pragma omp simd
  for (int64_t j = 0; j < H; ++j) {
    const float i = sigmoid(row.summed(v, j));
    const float f = sigmoid(row.summed(v, H + j));
    const float g = tanh(row.summed(v, 2 * H + j));
    float d = dc[j];
    if constexpr (kNorm == Norm::none) {
      d += dn[j];
    } else {
      d += through_cell(dn[j], row.m.c(c[j]));
    }
    da[j] = d * g * i * (1.0f - i);
    da[H + j] = d * c_before[j] * f * (1.0f - f);
    da[2 * H + j] = d * i * (1.0f - g * g);
    dc[j] = d * f;
  }
  if constexpr (kNorm == Norm::none) {
#pragma omp simd
    for (int64_t at = 0; at < kGates * H; ++at) {
      sums.bias[at] += da[at];
      du[at] = rounded<P>(da[at]);
    }
    return;
  }
  float sum_ih = 0.0f, sum_ih_n = 0.0f, sum_hh = 0.0f, sum_hh_n = 0.0f;
#pragma omp simd reduction(+ : sum_ih, sum_ih_n, sum_hh, sum_hh_n)
  for (int64_t at = 0; at < kGates * H; ++at) {
    const float d_ih = da[at] * row.normal_ih(at), d_hh = da[at] * row.normal_hh(at);
    sums.bias[at] += da[at];
    sums.gain_ih[at] += d_ih;
    sums.gain_hh[at] += d_hh;
    sum_ih += da[at] * v.gain_ih[at];
    sum_ih_n += d_ih * v.gain_ih[at];
    sum_hh += da[at] * v.gain_hh[at];
    sum_hh_n += d_hh * v.gain_hh[at];
  }
  const Backward through_ih = backward<kNorm>(sum_ih, sum_ih_n, kGates * H, row.m.ih.scale);
  const Backward through_hh = backward<kNorm>(sum_hh, sum_hh_n, kGates * H, row.m.hh.scale);
#pragma omp simd
  for (int64_t at = 0; at < kGates * H; ++at) {
    du[at] = rounded<P>(through_ih(da[at] * v.gain_ih[at], row.normal_ih(at)));
    dz[at] = rounded<P>(through_hh(da[at] * v.gain_hh[at], row.normal_hh(at)));
  }
}

// -- all rows and steps --------------------------------------------------------------------------------------------

struct Cell {
  Vector gain_ih, gain_hh, bias, gain_c, bias_c;
  Vectors vectors;

  Cell(int64_t hidden, double eps, const OptionalTensor& ih, const OptionalTensor& hh, const OptionalTensor& b,
       const OptionalTensor& c, const OptionalTensor& bc)
      : gain_ih(ih, kGates * hidden), gain_hh(hh, kGates * hidden), bias(b, kGates * hidden), gain_c(c, hidden),
        bias_c(bc, hidden), vectors{hidden, static_cast<float>(eps), gain_ih.data(), gain_hh.data(), bias.data(),
                                    gain_c.data(), bias_c.data()} {}
};

template <Norm kNorm, typename P>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> forward(
    const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0, const OptionalTensor& c_0, const Cell& cell,
    at::IntArrayRef batch_sizes, bool packed, bool save) {
  const int64_t H = cell.vectors.hidden, N = u.size(0), B = batch_sizes[0];
  const auto floats = u.options().dtype(at::kFloat);
  const int64_t kept = save ? N : 0;
  const Tensor output = at::empty({N, H}, floats), z_all = at::empty({kept, kGates * H}, u.options());
  const Tensor c_all = at::empty({save ? N : B, H}, floats), moments_all = at::empty({kept, kKept}, floats);
  const Tensor scratch = at::empty({at::get_num_threads(), H}, floats);
  const Tensor zero_row = at::zeros({kGates * H}, u.options()), zero_cell = at::zeros({H}, floats);
  const Product product(weight_hh, B, packed);
  if (save && !h_0) z_all.slice(0, 0, B).zero_();

  Tensor h = h_0 ? h_0->to(u.scalar_type()) : Tensor();  // (rows, H), of the products' type
  const float* c_before = c_0 ? c_0->template const_data_ptr<float>() : nullptr;
  int64_t start = 0;
  for (const int64_t rows : batch_sizes) {
    const Tensor z_step = h.defined() ? product(h.slice(0, 0, rows)) : Tensor();
    const P* z = z_step.defined() ? z_step.template const_data_ptr<P>() : nullptr;
    const P* u_step = u.const_data_ptr<P>() + start * kGates * H;
    float* c = c_all.mutable_data_ptr<float>() + (save ? start * H : 0);
    float* h_step = output.mutable_data_ptr<float>() + start * H;
    for_rows(rows, H, [&](int64_t r, int64_t thread) {
      Row<kNorm, P> row{u_step + r * kGates * H, z ? z + r * kGates * H : zero_row.const_data_ptr<P>(), {}};
      forward_row(cell.vectors, row, z != nullptr, c_before ? c_before + r * H : zero_cell.const_data_ptr<float>(),
                  scratch.mutable_data_ptr<float>() + thread * H, c + r * H, h_step + r * H);
      if (!save) return;
      reinterpret_cast<RowMoments*>(moments_all.mutable_data_ptr<float>())[start + r] = row.m;
      if (z) std::memcpy(z_all.mutable_data_ptr<P>() + (start + r) * kGates * H, row.z, sizeof(P) * kGates * H);
    });
    h = output.slice(0, start, start + rows).to(u.scalar_type());
    c_before = c;
    start += rows;
  }
  const Tensor h_n = last_rows(output, batch_sizes);
  if (!save) return {output, h_n, c_all, z_all, at::empty({0, H}, floats), moments_all};
  return {output, h_n, last_rows(c_all, batch_sizes), z_all, c_all, moments_all};
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
  Tensor output;   // (N, H)
  Tensor z;        // (N, 4H); the first step's rows are not read without h_0
  Tensor c;        // (N, H)
  Tensor moments;  // (N, 6)
};

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <Norm kNorm, typename P>
Gradients backward(const Incoming& d, const Kept& kept, const Cell& cell, at::IntArrayRef batch_sizes, bool packed,
                   bool weight_grad) {
  const Vectors& v = cell.vectors;
  const int64_t H = v.hidden, B = batch_sizes[0], threads = at::get_num_threads();
  const auto floats = kept.u.options().dtype(at::kFloat);
  const Tensor du = at::empty_like(kept.u), dz = kNorm == Norm::none ? du : at::empty_like(kept.u);
  const Tensor dc = d.c_n.clone(), scratch = at::empty({threads, 6 * H}, floats);
  const Tensor sums = at::zeros({threads, 14 * H}, floats);
  const Tensor zero_row = at::zeros({kGates * H}, kept.u.options()), zero_cell = at::zeros({H}, floats);
  const Product product(kept.weight_hh.t().contiguous(), B, packed);
  const float* c_first = kept.c_0 ? kept.c_0->const_data_ptr<float>() : nullptr;

  const std::vector<int64_t> starts = offsets(batch_sizes);
  Tensor dh_after;  // (rows of the step after, H): what came back through the product
  for (int64_t t = static_cast<int64_t>(batch_sizes.size()) - 1; t >= 0; --t) {
    const int64_t rows = batch_sizes[t], start = starts[t], rows_after = dh_after.defined() ? dh_after.size(0) : 0;
    const bool has_z = t > 0 || kept.h_0;
    const float* c_before = t > 0 ? kept.c.const_data_ptr<float>() + starts[t - 1] * H : c_first;
    const P* after = rows_after ? dh_after.const_data_ptr<P>() : nullptr;
    for_rows(rows, H, [&](int64_t r, int64_t thread) {
      float* own = scratch.mutable_data_ptr<float>() + thread * 6 * H;
      float* dh = own;
      const float* d_out = d.output.const_data_ptr<float>() + (start + r) * H;
      const float* d_last = d.h_n.const_data_ptr<float>() + r * H;
      for (int64_t j = 0; j < H; ++j) dh[j] = d_out[j] + (r < rows_after ? as_float(after[r * H + j]) : d_last[j]);
      float* s = sums.mutable_data_ptr<float>() + thread * 14 * H;
      const int64_t at = (start + r) * kGates * H;
      const Row<kNorm, P> row{kept.u.const_data_ptr<P>() + at,
                              has_z ? kept.z.const_data_ptr<P>() + at : zero_row.const_data_ptr<P>(),
                              reinterpret_cast<const RowMoments*>(kept.moments.const_data_ptr<float>())[start + r]};
      backward_row<kNorm, P>(v, row, c_before ? c_before + r * H : zero_cell.const_data_ptr<float>(),
                             kept.c.const_data_ptr<float>() + (start + r) * H, dh,
                             dc.mutable_data_ptr<float>() + r * H, own + 2 * H, own + H,
                             du.mutable_data_ptr<P>() + at, dz.mutable_data_ptr<P>() + at,
                             {s, s + 4 * H, s + 8 * H, s + 12 * H, s + 13 * H});
    });
    if (has_z) dh_after = product(dz.slice(0, start, start + rows));
  }
  Tensor dweight = at::empty({0}, kept.u.options());
  if (weight_grad) {
    const Tensor before = states_before(kept.output.to(kept.u.scalar_type()), kept.h_0, batch_sizes);
    dweight = at::mm((kept.h_0 ? dz : dz.slice(0, B)).t(), before);
  }
  const std::vector<Tensor> s = sums.sum(0).split_with_sizes({4 * H, 4 * H, 4 * H, H, H});
  const Tensor dh_0 = kept.h_0 ? dh_after.to(at::kFloat) : at::zeros({B, H}, floats);
  return {du, dweight, dh_0, dc, s[0], s[1], s[2], s[3], s[4]};
}

// -- operators -----------------------------------------------------------------------------------------------------

template <typename F>
auto with_types(std::string_view norm, at::ScalarType type, const F& run) {
  TORCH_CHECK(type == at::kFloat || type == at::kBFloat16, "expected products in float or bfloat16, got ", type);
  const auto with_norm = [&]<typename P>() {
    if (norm == "none") return run.template operator()<Norm::none, P>();
    if (norm == "layer") return run.template operator()<Norm::layer, P>();
    TORCH_CHECK(norm == "rms", "norm=", norm, ": expected none, layer or rms");
    return run.template operator()<Norm::rms, P>();
  };
  return type == at::kFloat ? with_norm.template operator()<float>() : with_norm.template operator()<BFloat16>();
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lstm(
    const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0, const OptionalTensor& c_0,
    const OptionalTensor& gain_ih, const OptionalTensor& gain_hh, const OptionalTensor& bias,
    const OptionalTensor& gain_c, const OptionalTensor& bias_c, at::IntArrayRef batch_sizes, std::string_view norm,
    double eps, bool packed, bool save) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const Cell cell(weight_hh.size(1), eps, gain_ih, gain_hh, bias, gain_c, bias_c);
  return with_types(norm, u.scalar_type(), [&]<Norm kNorm, typename P>() {
    return forward<kNorm, P>(u.contiguous(), weight_hh, contiguous(h_0), contiguous(c_0), cell, batch_sizes, packed,
                             save);
  });
}

Gradients lstm_backward(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n, const Tensor& u,
    const Tensor& weight_hh, const OptionalTensor& h_0, const OptionalTensor& c_0, const OptionalTensor& gain_ih,
    const OptionalTensor& gain_hh, const OptionalTensor& bias, const OptionalTensor& gain_c,
    const OptionalTensor& bias_c, const Tensor& output, const Tensor& z, const Tensor& c, const Tensor& moments,
    at::IntArrayRef batch_sizes, std::string_view norm, double eps, bool packed, bool weight_grad) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const int64_t H = weight_hh.size(1);
  const Cell cell(H, eps, gain_ih, gain_hh, bias, gain_c, bias_c);
  const Incoming incoming{float_or_zeros(d_output, {u.size(0), H}, u), float_or_zeros(d_h_n, {batch_sizes[0], H}, u),
                          float_or_zeros(d_c_n, {batch_sizes[0], H}, u)};
  const Kept kept{u.contiguous(), weight_hh, contiguous(h_0), contiguous(c_0), output, z, c, moments};
  return with_types(norm, u.scalar_type(), [&]<Norm kNorm, typename P>() {
    return backward<kNorm, P>(incoming, kept, cell, batch_sizes, packed, weight_grad);
  });
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "lstm(Tensor u, Tensor weight_hh, Tensor? h_0, Tensor? c_0, Tensor? gain_ih, Tensor? gain_hh, Tensor? bias, "
      "Tensor? gain_c, Tensor? bias_c, int[] batch_sizes, str norm, float eps, bool packed, bool save) -> "
      "(Tensor output, Tensor h_n, Tensor c_n, Tensor z, Tensor c, Tensor moments)");
  library.def(
      "lstm_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor u, Tensor weight_hh, Tensor? h_0, "
      "Tensor? c_0, Tensor? gain_ih, Tensor? gain_hh, Tensor? bias, Tensor? gain_c, Tensor? bias_c, Tensor output, "
      "Tensor z, Tensor c, Tensor moments, int[] batch_sizes, str norm, float eps, bool packed, bool weight_grad) -> "
      "(Tensor u, Tensor weight_hh, Tensor h_0, Tensor c_0, Tensor gain_ih, Tensor gain_hh, Tensor bias, "
      "Tensor gain_c, Tensor bias_c)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("lstm", &seq2seq::lstm);
  library.impl("lstm_backward", &seq2seq::lstm_backward);
}
