// The products of a recurrence: x W^T with a W that is the same at every step.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include <string>

namespace seq2seq {

// Calls an operator of PyTorch that has no public C++ function.
inline at::Tensor call(const char* name, torch::jit::Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(&stack);
  return stack.front().toTensor();
}

// x W^T by oneDNN, for W (out, in) in any layout.
inline at::Tensor onednn_linear(const at::Tensor& x, const at::Tensor& weight) {
  const c10::List<std::optional<at::Scalar>> no_scalars;
  return call("mkldnn::_linear_pointwise",
              {x, weight, c10::IValue(), std::string("none"), no_scalars, std::string()});
}

// x W^T for a W (out, in) that may be packed already: laid out as oneDNN's kernels read it.
inline at::Tensor product(const at::Tensor& x, const at::Tensor& weight, bool onednn) {
  return onednn || weight.is_mkldnn() ? onednn_linear(x, weight) : at::linear(x, weight);
}

// The same for one W and many x of at most `rows` rows. `pack_weight` packs W, once.
class Product {
 public:
  Product(const at::Tensor& weight, int64_t rows, bool pack_weight)
      : weight_(pack_weight && !weight.is_mkldnn() ? call("mkldnn::_reorder_linear_weight", {weight, rows}) : weight) {}

  at::Tensor operator()(const at::Tensor& x) const { return product(x, weight_, false); }

 private:
  at::Tensor weight_;
};

// d^T x: the gradient of W in y = x W^T, for d = dL/dy (N, out) and x (N, in). oneDNN takes d for a weight, which may
// lie in memory as it likes: x, the smaller one, is what is turned.
inline at::Tensor weight_gradient(const at::Tensor& d, const at::Tensor& x, bool onednn) {
  if (!onednn) return at::mm(d.t(), x);
  return onednn_linear(x.t().contiguous(), d.t()).t().contiguous();
}

}  // namespace seq2seq
