// The products of a recurrence: x W^T with a W that is the same at every step.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/linear.h>

#include <string>

namespace seq2seq {

// Calls an operator of PyTorch that has no public C++ function.
inline at::Tensor call(const char* name, torch::jit::Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(&stack);
  return stack.front().toTensor();
}

// x W^T for W (out, in). `pack_weight` lays W out once as oneDNN's kernels read it; the other way is at::linear.
class Product {
 public:
  Product(const at::Tensor& weight, int64_t rows, bool pack_weight) : packed_(pack_weight) {
    weight_ = pack_weight ? call("mkldnn::_reorder_linear_weight", {weight, rows}) : weight;
  }

  at::Tensor operator()(const at::Tensor& x) const {
    if (!packed_) return at::linear(x, weight_);
    const c10::List<std::optional<at::Scalar>> no_scalars;
    return call("mkldnn::_linear_pointwise",
                {x, weight_, c10::IValue(), std::string("none"), no_scalars, std::string()});
  }

 private:
  bool packed_;
  at::Tensor weight_;
};

}  // namespace seq2seq
