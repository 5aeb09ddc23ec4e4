// Matrix products: x W^T with a W that is packed once for many x, and the gradient of W.
//
// M rows, K inner size, N columns. Products are of float or bfloat16, to which a float W and x are
// rounded; sums are float.
// A row of a product with a packed W depends on that row of x alone, whatever the other rows and
// the number of threads are.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace seq2seq {

constexpr int64_t kThreadElements = 1 << 10;  // the fewest elements that are worth a thread

// W (N, K) for products of a type, in panels of columns, each with the values of one k side by
// side: a tensor of three dimensions. W itself if it is empty, or without
// vector instructions.
at::Tensor packed(const at::Tensor& weight, at::ScalarType type);

bool is_packed(const at::Tensor& weight);

// Whether a tensor is a W (N, K), as it is or packed.
bool is_weight(const at::Tensor& weight, int64_t N, int64_t K);

// x W^T for one W (N, K) and many x.
class Product {
 public:
  // Products of a type; packs W if `packs` and if it is not packed yet.
  Product(const at::Tensor& weight, int64_t N, at::ScalarType type, bool packs);

  // Of the products' type.
  at::Tensor operator()(const at::Tensor& x) const { return (*this)(x, weight_.scalar_type()); }

  // Of type float or that of the products, and with a float bias (N,) if there is any.
  at::Tensor operator()(const at::Tensor& x, at::ScalarType type,
                        const std::optional<at::Tensor>& bias = std::nullopt) const;

 private:
  at::Tensor weight_;
  int64_t N_;
};

// x W^T for one x, whose type is that of the product; the result is of it or float.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight, at::ScalarType type);

// d^T x, float: the gradient of W in y = x W^T, for d = dL/dy (M, V) and x (M, N) of one type.
at::Tensor weight_gradient(const at::Tensor& d, const at::Tensor& x);

// Checks x (N, I) and W_ih (width, I), packed or not.
void check_input_term(const at::Tensor& x, const at::Tensor& weight_ih, int64_t width);

// u = x W_ih^T (N, width), of the type of x.
at::Tensor input_term(const at::Tensor& x, const at::Tensor& weight_ih, int64_t width);

// The gradients of x and of a W_ih that is not packed, where they are wanted, else empty; du is
// that of u.
std::tuple<at::Tensor, at::Tensor> input_term_backward(const at::Tensor& du, const at::Tensor& x,
                                                       const at::Tensor& weight_ih, bool x_grad,
                                                       bool weight_grad);

}  // namespace seq2seq
