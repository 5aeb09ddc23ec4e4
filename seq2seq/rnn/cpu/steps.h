// The loop over time steps, forward and backward, that all cells and norms share: products, states
// and what is saved.
//
// Rows are packed (torch's PackedSequence): step t is the next batch_sizes[t] rows. There are
// N rows in all and B in the first step; H hidden features, G gates. U is the type of the input
// term u = W_ih x, P that of the products, float or bfloat16; states and norms are float.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "elementwise.h"
#include "input_terms.h"
#include "products.h"

namespace seq2seq {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline OptionalTensor contiguous(const OptionalTensor& t) {
  return t ? OptionalTensor(t->contiguous()) : t;
}

// A gradient as float; zero where there is none. `like` is float.
inline Tensor float_or_zeros(const OptionalTensor& given, const Tensor& like) {
  if (!given || !given->defined()) return at::zeros(like.sizes(), like.options());
  return given->to(at::kFloat).contiguous();
}

// The rows of each step, as the operators take them: (T,) of type Long, on the CPU.
inline at::IntArrayRef rows_of_steps(const Tensor& batch_sizes) {
  TORCH_CHECK(batch_sizes.dim() == 1 && batch_sizes.scalar_type() == at::kLong &&
                  batch_sizes.is_cpu() && batch_sizes.is_contiguous(),
              "expected batch_sizes (T,) of type Long on the CPU, got ", batch_sizes.sizes(),
              " of type ", batch_sizes.scalar_type());
  return {batch_sizes.const_data_ptr<int64_t>(), static_cast<size_t>(batch_sizes.numel())};
}

// Where each step's rows begin, followed by N.
inline std::vector<int64_t> offsets(at::IntArrayRef batch_sizes) {
  std::vector<int64_t> starts{0};
  for (const int64_t rows : batch_sizes) starts.push_back(starts.back() + rows);
  return starts;
}

// The rows (B, F) of every sequence's last step, from packed (N, F).
inline Tensor last_rows(const Tensor& packed, at::IntArrayRef batch_sizes) {
  const int64_t steps = static_cast<int64_t>(batch_sizes.size());
  const std::vector<int64_t> starts = offsets(batch_sizes);
  std::vector<Tensor> parts;
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t longer = t + 1 < steps ? batch_sizes[t + 1] : 0;
    if (batch_sizes[t] > longer)
      parts.push_back(packed.slice(0, starts[t] + longer, starts[t] + batch_sizes[t]));
  }
  return at::cat(parts);
}

// h_{t-1} of every row, from packed output (N, H): (N, H) with h_0, else without the first step's
// rows.
inline Tensor states_before(const Tensor& output, const OptionalTensor& h_0,
                            at::IntArrayRef batch_sizes) {
  const std::vector<int64_t> starts = offsets(batch_sizes);
  std::vector<Tensor> parts;
  if (h_0) parts.push_back(h_0->to(output.scalar_type()));
  if (batch_sizes.front() == batch_sizes.back()) {
    const Tensor all_but_last = output.slice(0, 0, starts[batch_sizes.size() - 1]);
    if (!h_0) return all_but_last;
    parts.push_back(all_but_last);
  } else {
    for (size_t t = 1; t < batch_sizes.size(); ++t)
      parts.push_back(output.slice(0, starts[t - 1], starts[t - 1] + batch_sizes[t]));
  }
  return at::cat(parts);
}

// One step. A pointer is null where there is nothing: z and the states before a first step without
// h_0, c of cells without a cell state, kept where nothing is saved.
template <typename U, typename P>
struct Step {
  int64_t t, start, rows;
  const U* u;             // (rows, G * H)
  const P* z;             // (rows, G * H): W_hh h_{t-1}
  const float* h_before;  // (rows, H)
  const float* c_before;  // (rows, H)
  float* h;               // (rows, H)
  float* c;               // (rows, H)
  P* kept;                // (rows, G * H): for the backward pass, z or what the cell makes of it
};

// Checks that an operator's arguments fit together: kernels see pointers alone.
inline void check_shapes(const InputTerms& u, const Tensor& weight_hh, const OptionalTensor& h_0,
                         const OptionalTensor& c_0, at::IntArrayRef batch_sizes, int64_t sequences,
                         int64_t gates) {
  const int64_t H = is_packed(weight_hh) ? u.width() / gates : weight_hh.size(1);
  TORCH_CHECK(u.width() == gates * H && is_weight(weight_hh, gates * H, H), "expected u (N, ",
              gates * H, ") and weight_hh (", gates * H, ", ", H, "), got [", u.rows(), ", ",
              u.width(), "] and ", weight_hh.sizes());
  TORCH_CHECK(!batch_sizes.empty() && offsets(batch_sizes).back() == u.rows() &&
                  std::is_sorted(batch_sizes.rbegin(), batch_sizes.rend()) &&
                  batch_sizes.back() > 0,
              "expected falling batch_sizes that add up to ", u.rows(), ", got ", batch_sizes);
  TORCH_CHECK(batch_sizes[0] == sequences, "expected ", batch_sizes[0], " sequences, got ",
              sequences);
  for (const OptionalTensor& state : {h_0, c_0})
    TORCH_CHECK(!state || (state->sizes() == at::IntArrayRef({batch_sizes[0], H}) &&
                           state->scalar_type() == at::kFloat),
                "expected float states (", batch_sizes[0], ", ", H, "), got ", state->sizes(),
                " of type ", state->scalar_type());
}

// Products are of the type of u.
inline void check_weight_type(at::ScalarType u, const Tensor& weight_hh) {
  const bool fits = weight_hh.scalar_type() == u ||
                    (weight_hh.scalar_type() == at::kFloat && !is_packed(weight_hh));
  TORCH_CHECK(fits, "expected weight_hh of the type of u or Float, got ", weight_hh.scalar_type(),
              " and u of type ", u);
}

inline void check_vectors(const Tensor& vectors, int64_t size) {
  TORCH_CHECK(vectors.scalar_type() == at::kFloat && vectors.numel() == size,
              "expected float vectors of ", size, " elements, got ", vectors.numel(), " of type ",
              vectors.scalar_type());
}

// Whether it pays to pack a weight for the products of so many steps, with so many rows in all.
inline bool packs(size_t steps, int64_t rows) {
  constexpr size_t kPackedSteps = 4;
  constexpr int64_t kPackedRows = 16;
  return steps >= kPackedSteps && rows >= kPackedRows;
}

struct Forward {
  Tensor output, h_n, c_n;
  Tensor z, c;  // (N, G * H) and (N, H), for the backward pass
};

// Runs `each` on every step in order. c_n is empty for cells without one.
template <typename U, typename P, typename F>
Forward forward_steps(InputTerms& u, const Tensor& weight_hh, int64_t H, const OptionalTensor& h_0,
                      const OptionalTensor& c_0, at::IntArrayRef batch_sizes, bool has_cell,
                      bool save, const F& each) {
  const int64_t width = u.width(), N = u.rows(), B = batch_sizes[0];
  const at::TensorOptions floats = at::kFloat;
  const at::ScalarType product_type = c10::CppTypeToScalarType<P>::value;
  const Tensor output = at::empty({N, H}, floats);
  const Tensor z_all = at::empty({save ? N : 0, width}, floats.dtype(product_type));
  const Tensor c_all = at::empty({!has_cell ? 0 : save ? N : B, H}, floats);
  const Product product(weight_hh, width, product_type, packs(batch_sizes.size(), N));

  Tensor h = h_0 ? *h_0 : Tensor();  // (rows, H)
  const float* h_before = h_0 ? h_0->const_data_ptr<float>() : nullptr;
  const float* c_before = c_0 ? c_0->const_data_ptr<float>() : nullptr;
  int64_t start = 0;
  for (int64_t t = 0; t < static_cast<int64_t>(batch_sizes.size()); ++t) {
    const int64_t rows = batch_sizes[t];
    const Tensor z = h.defined() ? product(h.slice(0, 0, rows)) : Tensor();
    float* c = has_cell ? c_all.mutable_data_ptr<float>() + (save ? start * H : 0) : nullptr;
    float* h_now = output.mutable_data_ptr<float>() + start * H;
    each(Step<U, P>{t, start, rows, u.of_step<U>(batch_sizes, t, start),
                    z.defined() ? z.const_data_ptr<P>() : nullptr, h_before, c_before, h_now, c,
                    save ? z_all.mutable_data_ptr<P>() + start * width : nullptr});
    h = output.slice(0, start, start + rows);
    h_before = h_now;
    c_before = c;
    start += rows;
  }
  const Tensor c_n = !has_cell || !save ? c_all : last_rows(c_all, batch_sizes);
  return {output, last_rows(output, batch_sizes), c_n, z_all,
          has_cell && save ? c_all : at::empty({0, H}, floats)};
}

// The gradients that enter a step: of h_t from the output and from later steps, and `carried`, the
// gradient that does not pass through W_hh, of c_t in the LSTM and of h_{t-1} in the GRU.
template <typename P>
struct StepGradients {
  const float* output;  // (rows, H)
  const P* after;       // (rows_after, H): through the product of the step after
  int64_t rows_after;
  const float* h_n;  // (B, H), for rows of no step after
  float* carried;    // (B, H)

  // Of `size` features of a row, from `from` on.
  void of_h(int64_t row, int64_t hidden, int64_t from, int64_t size, float* into) const {
    const int64_t at = row * hidden + from;
    const float *out = output + at, *last = h_n + at;
    if (row < rows_after) {
      const P* back = after + at;
#pragma omp simd
      for (int64_t j = 0; j < size; ++j) into[j] = out[j] + as_float(back[j]);
    } else {
#pragma omp simd
      for (int64_t j = 0; j < size; ++j) into[j] = out[j] + last[j];
    }
  }
};

struct Kept {
  Tensor u;  // (N, G * H)
  Tensor weight_hh;
  OptionalTensor h_0, c_0;
  Tensor output;  // (N, H)
  Tensor z, c;    // (N, G * H) and (N, H)

  // From a caller's tensors, and from results of a forward pass.
  Kept(const Tensor& input_term, const Tensor& weight, const OptionalTensor& first_h,
       const OptionalTensor& first_c, const Tensor& h, const Tensor& kept_z, const Tensor& kept_c)
      : u(input_term.contiguous()),
        weight_hh(weight),
        h_0(contiguous(first_h)),
        c_0(contiguous(first_c)),
        output(h),
        z(kept_z),
        c(kept_c) {}
};

// Gradients of the outputs; zero where there are none.
struct Incoming {
  Tensor output;   // (N, H)
  Tensor h_n;      // (B, H)
  Tensor carried;  // (B, H)

  Incoming(const OptionalTensor& d_output, const OptionalTensor& d_h_n,
           const OptionalTensor& d_carried, const Kept& kept, int64_t B)
      : output(float_or_zeros(d_output, kept.output)),
        h_n(float_or_zeros(d_h_n, kept.output.slice(0, 0, B))),
        carried(float_or_zeros(d_carried, kept.output.slice(0, 0, B))) {}
};

struct Backward {
  Tensor u, weight_hh, h_0, carried;
};

// Runs `each` on every step from the last to the first; it writes du and dz (rows, G * H), which
// are the same tensor with same_terms: where a cell only adds input and recurrent term.
template <typename U, typename P, typename F>
Backward backward_steps(const Incoming& d, const Kept& kept, at::IntArrayRef batch_sizes,
                        bool has_cell, bool same_terms, bool weight_grad, const F& each) {
  const int64_t H = kept.weight_hh.size(1), width = kept.u.size(1), B = batch_sizes[0];
  TORCH_CHECK(
      kept.z.size(0) == kept.u.size(0) && (!has_cell || kept.c.size(0) == kept.u.size(0)),
      "no backward pass can follow a forward pass that ran with save=false, as in inference");
  const Tensor du = at::empty_like(kept.u), dz = same_terms ? du : at::empty_like(kept.z),
               carried = d.carried.clone();
  const at::ScalarType product_type = c10::CppTypeToScalarType<P>::value;
  const Product product(kept.weight_hh.t(), H, product_type,
                        packs(batch_sizes.size(), kept.u.size(0)));
  const std::vector<int64_t> starts = offsets(batch_sizes);
  const auto before = [&](int64_t t, const Tensor& all,
                          const OptionalTensor& first) -> const float* {
    if (t > 0) return all.const_data_ptr<float>() + starts[t - 1] * H;
    return first ? first->const_data_ptr<float>() : nullptr;
  };
  Tensor after;
  for (int64_t t = static_cast<int64_t>(batch_sizes.size()) - 1; t >= 0; --t) {
    const int64_t rows = batch_sizes[t], start = starts[t];
    const bool has_z = t > 0 || kept.h_0;
    P* z = kept.z.data_ptr<P>() + start * width;
    const Step<U, P> step{t,
                          start,
                          rows,
                          kept.u.const_data_ptr<U>() + start * width,
                          has_z ? z : nullptr,
                          before(t, kept.output, kept.h_0),
                          has_cell ? before(t, kept.c, kept.c_0) : nullptr,
                          kept.output.data_ptr<float>() + start * H,
                          has_cell ? kept.c.data_ptr<float>() + start * H : nullptr,
                          z};
    const StepGradients<P> gradients{
        d.output.const_data_ptr<float>() + start * H,
        after.defined() ? after.const_data_ptr<P>() : nullptr, after.defined() ? after.size(0) : 0,
        d.h_n.const_data_ptr<float>(), carried.mutable_data_ptr<float>()};
    each(step, gradients, du.mutable_data_ptr<U>() + start * width,
         dz.mutable_data_ptr<P>() + start * width);
    if (has_z) after = product(dz.slice(0, start, start + rows));
  }
  Tensor dweight = at::empty({0}, kept.weight_hh.options());
  if (weight_grad) {
    const Tensor states = states_before(kept.output.to(product_type), kept.h_0, batch_sizes);
    dweight =
        weight_gradient(kept.h_0 ? dz : dz.slice(0, B), states).to(kept.weight_hh.scalar_type());
  }
  const Tensor dh_0 = kept.h_0 ? after.to(at::kFloat) : at::zeros({B, H}, d.h_n.options());
  return {du, dweight, dh_0, carried};
}

}  // namespace seq2seq
