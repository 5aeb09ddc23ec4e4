// Products as operators: the input term of all steps, u = x W^T, forward and backward, and products
// with weights that are packed once.

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "products.h"

namespace seq2seq {
namespace {

using at::Tensor;

void check_type(const Tensor& t) {
  TORCH_CHECK(t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16,
              "expected a type of Float or BFloat16, got ", t.scalar_type());
}

Tensor pack(const Tensor& weight) {
  check_type(weight);
  TORCH_CHECK(weight.dim() == 2, "expected a weight (N, K), got ", weight.sizes());
  return packed(weight, weight.scalar_type());
}

// x W^T + bias (N, columns) of the type of W, or in float, for a packed W (columns, I) and a float
// bias.
Tensor packed_projection(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                         int64_t columns, bool in_float) {
  check_type(x);
  TORCH_CHECK(x.dim() == 2 && is_packed(weight) && is_weight(weight, columns, x.size(1)) &&
                  (x.scalar_type() == at::kFloat || x.scalar_type() == weight.scalar_type()),
              "expected x (N, I) of type Float or ", weight.scalar_type(),
              ", and a packed weight (", columns, ", I), got ", x.sizes(), " of type ",
              x.scalar_type(), " and ", weight.sizes());
  TORCH_CHECK(!bias || (bias->scalar_type() == at::kFloat && bias->is_contiguous() &&
                        bias->sizes() == at::IntArrayRef({columns})),
              "expected a contiguous float bias (", columns, "), got ", bias->sizes(), " of type ",
              bias->scalar_type());
  const at::ScalarType type = weight.scalar_type();
  return Product(weight, columns, type, false)(x, in_float ? at::kFloat : type, bias);
}

Tensor projection(const Tensor& x, const Tensor& weight) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  check_type(x);
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1) &&
                  (weight.scalar_type() == at::kFloat || weight.scalar_type() == x.scalar_type()),
              "expected x (N, I) and a weight (F, I) of type Float or that of x, got ", x.sizes(),
              " of type ", x.scalar_type(), " and ", weight.sizes(), " of type ",
              weight.scalar_type());
  return input_term(x, weight, weight.size(0));
}

// x W^T in float, for x (N, I), of whose type the products are, and W (F, I). No bit of it depends
// on the number of threads.
Tensor float_product(const Tensor& x, const Tensor& weight) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return Product(weight, weight.size(0), x.scalar_type(), true)(x, at::kFloat);
}

// The gradients of x (N, I) and weight (F, I) where they are needed, else empty; du (N, F).
std::tuple<Tensor, Tensor> projection_backward(const Tensor& du, const Tensor& x,
                                               const Tensor& weight, bool x_grad,
                                               bool weight_grad) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return input_term_backward(du, x, weight, x_grad, weight_grad);
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def("packed(Tensor weight) -> Tensor");
  library.def(
      "packed_projection(Tensor x, Tensor weight, Tensor? bias, int columns, bool in_float=False) "
      "-> Tensor");
  library.def("projection(Tensor x, Tensor weight) -> Tensor");
  library.def("float_product(Tensor x, Tensor weight) -> Tensor");
  library.def("weight_gradient(Tensor d, Tensor x) -> Tensor");
  library.def(
      "projection_backward(Tensor du, Tensor x, Tensor weight, bool x_grad, bool weight_grad) -> "
      "(Tensor x, Tensor weight)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("packed", &seq2seq::pack);
  library.impl("packed_projection", &seq2seq::packed_projection);
  library.impl("projection", &seq2seq::projection);
  library.impl("float_product", &seq2seq::float_product);
  library.impl("weight_gradient", &seq2seq::weight_gradient);
  library.impl("projection_backward", &seq2seq::projection_backward);
}
