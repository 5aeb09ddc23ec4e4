// The products of a recurrence: x W^T with a W that is the same at every step.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <string>

namespace seq2seq {

constexpr int64_t kThreadElements = 1 << 13;  // the least work that is worth a thread

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

// Whether oneDNN multiplies large float matrices. Without AVX-512 PyTorch's own product was 2 to 27
// percent faster (measured on AMD Zen 3). In bfloat16 both are the same.
inline bool onednn_for_large(bool onednn) { return onednn && at::get_cpu_capability() == "AVX512"; }

// x W^T for a W (out, in) that may be packed already, in the layout of oneDNN's kernels.
inline at::Tensor product(const at::Tensor& x, const at::Tensor& weight, bool onednn) {
  return onednn || weight.is_mkldnn() ? onednn_linear(x, weight) : at::linear(x, weight);
}

// A copy of float x (rows, columns) as (columns, rows), by tiles and by threads. That of at::Tensor
// uses one thread, and takes two to three times as long on it.
inline at::Tensor transposed(const at::Tensor& x) {
  constexpr int64_t kTile = 8;
  const int64_t rows = x.size(0), columns = x.size(1);
  const at::Tensor whole = x.contiguous(), turned = at::empty({columns, rows}, x.options());
  const float* from = whole.const_data_ptr<float>();
  float* to = turned.mutable_data_ptr<float>();
  const int64_t grain = std::max<int64_t>(1, kThreadElements / (rows * kTile));
  at::parallel_for(0, (columns + kTile - 1) / kTile, grain, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin * kTile; c < std::min(end * kTile, columns); c += kTile) {
      for (int64_t r = 0; r < rows; r += kTile) {
        if (c + kTile <= columns && r + kTile <= rows) {
          float tile[kTile][kTile];
          for (int64_t i = 0; i < kTile; ++i)
            for (int64_t j = 0; j < kTile; ++j) tile[j][i] = from[(r + i) * columns + c + j];
          for (int64_t j = 0; j < kTile; ++j) std::copy_n(tile[j], kTile, to + (c + j) * rows + r);
        } else {
          for (int64_t j = c; j < std::min(c + kTile, columns); ++j)
            for (int64_t i = r; i < std::min(r + kTile, rows); ++i)
              to[j * rows + i] = from[i * columns + j];
        }
      }
    }
  });
  return turned;
}

// x W^T for one W (out, in) and many x of at most `rows` rows. W is prepared once for all of them:
// packed, or kept as it is for W x^T with its few columns, where oneDNN does not multiply large
// float matrices.
class Product {
 public:
  Product(const at::Tensor& weight, int64_t rows, bool prepare) : weight_(weight) {
    if (!prepare || weight.is_mkldnn()) return;
    turned_ = weight.scalar_type() == at::kFloat && rows >= kTurnedFrom && !onednn_for_large(true);
    if (!turned_)
      weight_ = call("mkldnn::_reorder_linear_weight", {weight, rows});
    else if (!weight.is_contiguous())
      weight_ = transposed(weight.t());
  }

  at::Tensor operator()(const at::Tensor& x) const {
    if (!turned_) return product(x, weight_, false);
    const bool widens = weight_.size(0) > weight_.size(1);  // oneDNN was faster for these
    return transposed(widens ? onednn_linear(weight_, transposed(x).t()) : at::mm(weight_, x.t()));
  }

 private:
  static constexpr int64_t kTurnedFrom =
      16;  // rows; with fewer the packed product is faster (measured on AMD Zen 3)
  at::Tensor weight_;
  bool turned_ = false;
};

// d^T x: the gradient of W in y = x W^T, for d = dL/dy (N, out) and x (N, in). oneDNN reads
// d as a weight, in any layout, so that only the smaller x and the result are transposed.
inline at::Tensor weight_gradient(const at::Tensor& d, const at::Tensor& x, bool onednn) {
  if (!onednn_for_large(onednn) || x.scalar_type() != at::kFloat) return at::mm(d.t(), x);
  return transposed(onednn_linear(transposed(x), d.t()));
}

}  // namespace seq2seq
