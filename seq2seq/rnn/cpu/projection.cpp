// The input term of all steps in one product, u = x W^T, forward and backward.

#include <ATen/ops/empty.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <tuple>

#include "products.h"

namespace seq2seq {
namespace {

using at::Tensor;

Tensor projection(const Tensor& x, const Tensor& weight, bool onednn) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  TORCH_CHECK(
      x.scalar_type() == weight.scalar_type() && x.dim() == 2 && x.size(1) == weight.size(1),
      "expected x (N, ", weight.size(1), ") of type ", weight.scalar_type(), ", got ", x.sizes(),
      " of type ", x.scalar_type());
  return product(x, weight, onednn_for_large(onednn));
}

// The gradients of x (N, I) and weight (F, I) where they are needed, else empty; du (N, F).
std::tuple<Tensor, Tensor> projection_backward(const Tensor& du, const Tensor& x,
                                               const Tensor& weight, bool onednn, bool x_grad,
                                               bool weight_grad) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const Tensor nothing = at::empty({0}, x.options());
  return {x_grad ? product(du, weight.t(), onednn_for_large(onednn)) : nothing,
          weight_grad ? weight_gradient(du, x) : nothing};
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def("projection(Tensor x, Tensor weight, bool onednn) -> Tensor");
  library.def(
      "projection_backward(Tensor du, Tensor x, Tensor weight, bool onednn, bool x_grad, bool "
      "weight_grad) -> "
      "(Tensor x, Tensor weight)");
}

TORCH_LIBRARY_IMPL(seq2seq, MkldnnCPU, library) {  // for packed weights
  library.impl("projection", &seq2seq::projection);
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("projection", &seq2seq::projection);
  library.impl("projection_backward", &seq2seq::projection_backward);
}
