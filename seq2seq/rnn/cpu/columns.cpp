// Recurrences with batch norm: between two products one pass over features, shared by threads.

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <string_view>
#include <tuple>

#include "gru_columns.h"
#include "lstm_columns.h"
#include "rnn_columns.h"

namespace seq2seq {
namespace {

template <typename F>
void for_blocks(int64_t rows, int64_t hidden, const F& each) {
  const int64_t blocks = (hidden + kWidth - 1) / kWidth;
  const int64_t grain = std::max<int64_t>(1, kThreadElements / (rows * kWidth));
  at::parallel_for(0, blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) each(b * kWidth, std::min(kWidth, hidden - b * kWidth));
  });
}

struct Settings {
  at::IntArrayRef batch_sizes;
  int64_t batch_steps;  // number of first steps that are normalised by their own statistics
  double eps;
  bool normalises_input, pack_weight;

  // A step with its part of the statistics (T, F).
  template <typename U, typename P>
  ColumnStep<U, P> with_statistics(const Step<U, P>& s, const Tensor& mean,
                                   const Tensor& var) const {
    const int64_t at = s.t * mean.size(1);
    return {s, s.t < batch_steps, mean.data_ptr<float>() + at, var.data_ptr<float>() + at};
  }
};

using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename Cell>
Outputs forward(const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0,
                const OptionalTensor& c_0, const Tensor& vectors, const Tensor& mean,
                const Tensor& var, const Settings& settings, bool save) {
  using U = typename Cell::Input;
  using P = typename Cell::Products;
  const int64_t H = weight_hh.size(1);
  const typename Cell::Layer layer(vectors.const_data_ptr<float>(), H, settings.eps,
                                   settings.normalises_input);
  const Forward done = forward_steps<U, P>(
      u, weight_hh, h_0, c_0, settings.batch_sizes, Cell::kHasCell, settings.pack_weight, save,
      [&](const Step<U, P>& s) {
        const ColumnStep<U, P> step = settings.with_statistics(s, mean, var);
        for_blocks(s.rows, H,
                   [&](int64_t first, int64_t width) { Cell::forward(layer, step, first, width); });
      });
  return {done.output, done.h_n, done.c_n, done.z, done.c, mean, var};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename Cell>
Gradients backward(const Incoming& d, const Kept& kept, const Tensor& vectors, const Tensor& mean,
                   const Tensor& var, const Settings& settings, bool weight_grad) {
  using U = typename Cell::Input;
  using P = typename Cell::Products;
  const int64_t H = kept.weight_hh.size(1), B = settings.batch_sizes[0];
  const auto floats = kept.u.options().dtype(at::kFloat);
  const Tensor scratch = at::empty({B, Cell::kBackwardScratch * H}, floats);
  const Tensor sums = at::zeros({vectors.numel()}, floats);
  const typename Cell::Layer layer(vectors.const_data_ptr<float>(), H, settings.eps,
                                   settings.normalises_input);
  const typename Cell::template Vectors<float*> gradient_sums(sums.mutable_data_ptr<float>(), H);
  const Backward done = backward_steps<U, P>(
      d, kept, settings.batch_sizes, Cell::kHasCell, Cell::kSameTerms, settings.pack_weight,
      weight_grad, [&](const Step<U, P>& s, const StepGradients<P>& gradients, U* du, P* dz) {
        const ColumnStep<U, P> step = settings.with_statistics(s, mean, var);
        const ColumnGradients<U, P> d_step{gradients, gradients.carried,
                                           scratch.mutable_data_ptr<float>(), du, dz};
        for_blocks(s.rows, H, [&](int64_t first, int64_t width) {
          Cell::backward(layer, step, first, width, d_step, gradient_sums);
        });
      });
  if (Cell::kHasCell) return {done.u, done.weight_hh, done.h_0, done.carried, sums};
  return {done.u, done.weight_hh, done.h_0.add(done.carried), at::empty({0, H}, floats), sums};
}

// -- operators ---

template <typename Cell>
struct Tag {
  using type = Cell;
};

template <typename U, typename P, typename F>
auto with_cell(std::string_view cell, const F& run) {
  if (cell == "lstm") return run(Tag<LstmColumns<U, P>>());
  if (cell == "gru") return run(Tag<GruColumns<U, P>>());
  if constexpr (std::is_same_v<U, P>) {  // the sum of both terms is normalised, never the input
                                         // term alone
    if (cell == "rnn_tanh") return run(Tag<TanhColumns<U, P>>());
    if (cell == "rnn_relu") return run(Tag<ReluColumns<U, P>>());
  }
  TORCH_CHECK(false, "cell=", cell, ": expected lstm, gru, rnn_tanh or rnn_relu");
}

// Calls run(Tag<the cell with these types>).
template <typename F>
auto with_types(const Tensor& u, const Tensor& weight_hh, std::string_view cell, const F& run) {
  const at::ScalarType input = u.scalar_type(), products = weight_hh.scalar_type();
  TORCH_CHECK(input == at::kFloat || input == products,
              "expected an input term in float or the products' type, got ", input);
  if (products == at::kFloat) return with_cell<float, float>(cell, run);
  TORCH_CHECK(products == at::kBFloat16, "expected products in float or bfloat16, got ", products);
  if (input == at::kFloat) return with_cell<float, BFloat16>(cell, run);
  return with_cell<BFloat16, BFloat16>(cell, run);
}

Outputs batch_norm_recurrence(const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0,
                              const OptionalTensor& c_0, const Tensor& vectors, const Tensor& mean,
                              const Tensor& var, at::IntArrayRef batch_sizes, int64_t batch_steps,
                              std::string_view cell, double eps, bool normalises_input,
                              bool pack_weight, bool save) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return with_types(u, weight_hh, cell, [&](auto tag) {
    using Cell = typename decltype(tag)::type;
    const int64_t H = weight_hh.size(1), steps = batch_sizes.size();
    check_shapes(u, weight_hh, h_0, c_0, batch_sizes, Cell::kGates);
    check_vectors(vectors, Cell::template Vectors<float*>::kCount * H);
    for (const Tensor& statistics : {mean, var})
      TORCH_CHECK(statistics.sizes() == at::IntArrayRef({steps, Cell::kStatistics * H}) &&
                      statistics.scalar_type() == at::kFloat,
                  "expected float statistics (", steps, ", ", Cell::kStatistics * H, "), got ",
                  statistics.sizes(), " of type ", statistics.scalar_type());
    return forward<Cell>(u.contiguous(), weight_hh, contiguous(h_0), contiguous(c_0),
                         vectors.contiguous(), mean.clone(at::MemoryFormat::Contiguous),
                         var.clone(at::MemoryFormat::Contiguous),
                         {batch_sizes, batch_steps, eps, normalises_input, pack_weight}, save);
  });
}

Gradients batch_norm_recurrence_backward(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0, const OptionalTensor& c_0,
    const Tensor& vectors, const Tensor& output, const Tensor& z, const Tensor& c,
    const Tensor& mean, const Tensor& var, at::IntArrayRef batch_sizes, int64_t batch_steps,
    std::string_view cell, double eps, bool normalises_input, bool pack_weight, bool weight_grad) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const Kept kept{u.contiguous(), weight_hh, contiguous(h_0), contiguous(c_0), output, z, c};
  const Incoming incoming(d_output, d_h_n, cell == "lstm" ? d_c_n : std::nullopt, kept,
                          batch_sizes[0]);
  return with_types(u, weight_hh, cell, [&](auto tag) {
    using Cell = typename decltype(tag)::type;
    return backward<Cell>(incoming, kept, vectors.contiguous(), mean, var,
                          {batch_sizes, batch_steps, eps, normalises_input, pack_weight},
                          weight_grad);
  });
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "batch_norm_recurrence(Tensor u, Tensor weight_hh, Tensor? h_0, Tensor? c_0, Tensor vectors, "
      "Tensor mean, "
      "Tensor var, int[] batch_sizes, int batch_steps, str cell, float eps, bool normalises_input, "
      "bool pack_weight, "
      "bool save) -> (Tensor output, Tensor h_n, Tensor c_n, Tensor z, Tensor c, Tensor mean, "
      "Tensor var)");
  library.def(
      "batch_norm_recurrence_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor u, "
      "Tensor weight_hh, "
      "Tensor? h_0, Tensor? c_0, Tensor vectors, Tensor output, Tensor z, Tensor c, Tensor mean, "
      "Tensor var, "
      "int[] batch_sizes, int batch_steps, str cell, float eps, bool normalises_input, bool "
      "pack_weight, bool "
      "weight_grad) -> (Tensor u, Tensor weight_hh, Tensor h_0, Tensor c_0, Tensor vectors)");
}

TORCH_LIBRARY_IMPL(seq2seq, MkldnnCPU, library) {  // for packed weights
  library.impl("batch_norm_recurrence", &seq2seq::batch_norm_recurrence);
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("batch_norm_recurrence", &seq2seq::batch_norm_recurrence);
  library.impl("batch_norm_recurrence_backward", &seq2seq::batch_norm_recurrence_backward);
}
