// Two recurrences at once, such as both directions of a layer, with their input terms: one on each
// of two threads. Neither waits for the other, where threads that share a step meet after each
// product and each pass.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <tuple>
#include <vector>

#include "steps.h"

namespace seq2seq {

using Tensors = c10::List<std::optional<Tensor>>;

// u = W_ih x (N, width), of the type of x, for x (N, I) and W_ih (width, I), packed or not.
inline Tensor input_term(const Tensor& x, const Tensor& weight_ih, int64_t width) {
  TORCH_CHECK(x.dim() == 2 && is_weight(weight_ih, width, x.size(1)), "expected x (N, I) and a ",
              "weight (", width, ", I), got ", x.sizes(), " and ", weight_ih.sizes());
  if (is_packed(weight_ih))
    return Product(weight_ih, width, x.scalar_type(), false)(x, x.scalar_type());
  return product(x, weight_ih, x.scalar_type());
}

// The gradients of x and W_ih where they are wanted, else empty; du is that of u.
inline std::tuple<Tensor, Tensor> back_through_input_term(const Tensor& du, const Tensor& x,
                                                          const Tensor& weight_ih, bool x_grad,
                                                          bool weight_grad) {
  const Tensor nothing = at::empty({0}, x.options());
  return {x_grad ? product(du, weight_ih.t(), x.scalar_type()) : nothing,
          weight_grad ? weight_gradient(du, x).to(weight_ih.scalar_type()) : nothing};
}

// What run(tensors) returns for the `count` tensors of the first and of the second.
template <typename F>
std::vector<Tensor> both(const Tensors& first, const Tensors& second, size_t count, const F& run) {
  TORCH_CHECK(first.size() == count && second.size() == count, "expected ", count,
              " tensors for each recurrence, got ", first.size(), " and ", second.size());
  const std::vector<OptionalTensor> given[] = {first.vec(), second.vec()};
  std::vector<Tensor> found[2];
  const at::ThreadLocalState callers;  // without autograd, as here
  at::parallel_for(0, 2, 1, [&](int64_t begin, int64_t end) {
    const at::ThreadLocalStateGuard as_callers(callers);
    for (int64_t i = begin; i < end; ++i)
      found[i] =
          std::apply([](const auto&... t) { return std::vector<Tensor>{t...}; }, run(given[i]));
  });
  found[0].insert(found[0].end(), found[1].begin(), found[1].end());
  return found[0];
}

}  // namespace seq2seq
