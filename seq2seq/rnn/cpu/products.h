// The products of a recurrence: x W^T with a W that is the same at every step.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <string>

namespace seq2seq {

constexpr int64_t kThreadElements = 1 << 13;  // the least work that is worth a thread

// Calls an operator of PyTorch that has no public C++ function.
inline at::Tensor call(const char* name, torch::jit::Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(&stack);
  return stack.front().toTensor();
}

// The number of rows that a product of oneDNN has for at least so many. oneDNN compiles its code
// for each shape, and keeps about half a megabyte of it for ever. Packed batches have another
// number of rows each time, so that memory would grow with every update.
inline int64_t recurring(int64_t rows) {
  const int64_t step = rows <= 4 ? 1 : rows <= 64 ? 4 : rows <= 256 ? 16 : 64;
  return (rows + step - 1) / step * step;
}

// x with more rows, whose values mean nothing: those behind it in its memory, if there are enough.
inline at::Tensor with_rows(const at::Tensor& x, int64_t rows) {
  if (rows == x.size(0)) return x;
  const int64_t end = x.storage_offset() + rows * x.size(1);
  const int64_t room = static_cast<int64_t>(x.storage().nbytes()) / x.element_size();
  if (x.is_contiguous() && end <= room) return x.as_strided({rows, x.size(1)}, x.strides());
  const at::Tensor more = at::zeros({rows, x.size(1)}, x.options());
  more.narrow(0, 0, x.size(0)).copy_(x);
  return more;
}

// x with rows of zeros behind it.
inline at::Tensor with_zeros(const at::Tensor& x, int64_t rows) {
  return rows == x.size(0) ? x : at::constant_pad_nd(x, {0, 0, 0, rows - x.size(0)});
}

// x W^T by oneDNN, for W (out, in) in any layout.
inline at::Tensor onednn_product(const at::Tensor& x, const at::Tensor& weight) {
  const c10::List<std::optional<at::Scalar>> no_scalars;
  return call("mkldnn::_linear_pointwise",
              {x, weight, c10::IValue(), std::string("none"), no_scalars, std::string()});
}

// The same, with recurring rows. The result may lie in memory of more rows.
inline at::Tensor onednn_linear(const at::Tensor& x, const at::Tensor& weight) {
  return onednn_product(with_rows(x, recurring(x.size(0))), weight).narrow(0, 0, x.size(0));
}

// Whether oneDNN multiplies large float matrices. Without AVX-512 PyTorch's own product was 2 to 27
// percent faster (measured on AMD Zen 3). In bfloat16 both are the same.
inline bool onednn_for_large(bool onednn) { return onednn && at::get_cpu_capability() == "AVX512"; }

// x W^T for a W (out, in) that may be packed already, in the layout of oneDNN's kernels.
inline at::Tensor product(const at::Tensor& x, const at::Tensor& weight, bool onednn) {
  if (onednn || weight.is_mkldnn()) return onednn_linear(x, weight);
  if (x.scalar_type() == at::kFloat) return at::linear(x, weight);
  return at::linear(with_rows(x, recurring(x.size(0))), weight).narrow(0, 0, x.size(0));
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
    if (!widens) return transposed(at::mm(weight_, x.t()));
    const at::Tensor more = transposed(with_rows(x, recurring(x.size(0))));
    return transposed(onednn_product(weight_, more.t())).narrow(0, 0, x.size(0));
  }

 private:
  static constexpr int64_t kTurnedFrom =
      16;  // rows; with fewer the packed product is faster (measured on AMD Zen 3)
  at::Tensor weight_;
  bool turned_ = false;
};

// d^T x: the gradient of W in y = x W^T, for d = dL/dy (N, out) and x (N, in).
inline at::Tensor weight_gradient(const at::Tensor& d, const at::Tensor& x) {
  if (x.scalar_type() == at::kFloat) return at::mm(d.t(), x);
  const int64_t rows = recurring(x.size(0));  // oneDNN multiplies these
  return at::mm(with_zeros(d, rows).t(), with_zeros(x, rows));
}

}  // namespace seq2seq
