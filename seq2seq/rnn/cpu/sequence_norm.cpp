// Batch norm of the input term over the rows of all steps at once, before a recurrence.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <tuple>

#include "columns.h"

namespace seq2seq {
namespace {

// N rows with one set of statistics (F,), as a step has them.
struct AllRows {
  int64_t rows;
  float *mean, *var;
};

// Calls each(term, first, width) for blocks of the features of gain * N(u). The statistics are
// found if `own`, else given.
template <typename V, typename F>
void for_terms(const Tensor& u, const Tensor& gain, const Tensor& mean, const Tensor& var, bool own,
               double eps, const F& each) {
  const int64_t features = u.size(1);
  const AllRows all{u.size(0), mean.data_ptr<float>(), var.data_ptr<float>()};
  for_blocks(all.rows, features, [&](int64_t first, int64_t width) {
    each(ColumnTerm<V>(all, u.const_data_ptr<V>() + first, features, width,
                       gain.const_data_ptr<float>() + first, first, own, eps),
         first, width);
  });
}

// Calls run(the value of u's type).
template <typename F>
void with_type(const Tensor& u, const F& run) {
  if (u.scalar_type() == at::kFloat) return run(float());
  TORCH_CHECK(u.scalar_type() == at::kBFloat16, "expected u of type Float or BFloat16, got ",
              u.scalar_type());
  run(BFloat16());
}

void check(const Tensor& u, const Tensor& gain) {
  TORCH_CHECK(u.dim() == 2 && u.size(0) > 0, "expected u (N, F) with rows, got ", u.sizes());
  check_vectors(gain, u.size(1));
}

using Normalised = std::tuple<Tensor, Tensor, Tensor>;

// gain * N(u) + bias (N, F), float, with the statistics (F,) of u, the variance biased, or with
// running ones where they are given; then its own statistics, as far as they were found.
Normalised sequence_norm(const Tensor& given, const Tensor& gain, const OptionalTensor& bias,
                         const OptionalTensor& running_mean, const OptionalTensor& running_var,
                         double eps) {
  const Tensor u = given.contiguous(), gains = gain.contiguous();
  check(u, gains);
  const bool own = !running_mean;
  TORCH_CHECK(own == !running_var, "expected a mean with a variance");
  const auto floats = u.options().dtype(at::kFloat);
  const Tensor mean = own ? at::empty({u.size(1)}, floats) : running_mean->contiguous(),
               var = own ? at::empty({u.size(1)}, floats) : running_var->contiguous(),
               biases = bias ? bias->contiguous() : at::zeros({u.size(1)}, floats),
               y = at::empty(u.sizes(), floats);
  for (const Tensor& vector : {mean, var, biases}) check_vectors(vector, u.size(1));
  with_type(u, [&]<typename V>(V) {
    for_terms<V>(u, gains, mean, var, own, eps,
                 [&](const ColumnTerm<V>& term, int64_t first, int64_t width) {
                   for (int64_t r = 0; r < u.size(0); ++r) {
                     float* to = y.mutable_data_ptr<float>() + r * u.size(1) + first;
                     std::copy_n(biases.const_data_ptr<float>() + first, width, to);
                     term.add_to(r, to);
                   }
                 });
  });
  if (own) return {y, mean, var};
  return {y, at::empty({0}, floats), at::empty({0}, floats)};
}

// The gradients of u, gain and bias from d, that of the result, and its statistics; they were u's
// if `own`.
Normalised sequence_norm_backward(const Tensor& d_y, const Tensor& given, const Tensor& gain,
                                  const Tensor& mean, const Tensor& var, bool own, double eps) {
  const Tensor u = given.contiguous(), gains = gain.contiguous(),
               d = d_y.to(at::kFloat).contiguous();
  check(u, gains);
  for (const Tensor& vector : {mean, var}) check_vectors(vector, u.size(1));
  TORCH_CHECK(d.sizes() == u.sizes(), "expected a gradient ", u.sizes(), ", got ", d.sizes());
  const Tensor du = at::empty_like(u), dgain = at::zeros_like(gains), dbias = at::zeros_like(gains);
  with_type(u, [&]<typename V>(V) {
    for_terms<V>(
        u, gains, mean, var, false, eps, [&](const ColumnTerm<V>& term, int64_t first, int64_t) {
          term.back(d.const_data_ptr<float>() + first, u.size(1), u.size(0), own,
                    dgain.mutable_data_ptr<float>() + first,
                    dbias.mutable_data_ptr<float>() + first, du.mutable_data_ptr<V>() + first);
        });
  });
  return {du, dgain, dbias};
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "sequence_norm(Tensor u, Tensor gain, Tensor? bias, Tensor? mean, Tensor? var, float eps) -> "
      "(Tensor y, Tensor mean, Tensor var)");
  library.def(
      "sequence_norm_backward(Tensor d_y, Tensor u, Tensor gain, Tensor mean, Tensor var, bool "
      "own, float eps) -> (Tensor u, Tensor gain, Tensor bias)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("sequence_norm", &seq2seq::sequence_norm);
  library.impl("sequence_norm_backward", &seq2seq::sequence_norm_backward);
}
