// The input term u = W_ih x of a recurrence, as its steps come to it. A backward pass needs all of
// it. Without one a part at a time will do, which stays in the caches and takes little memory.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <optional>

#include "products.h"

namespace seq2seq {

constexpr int64_t kPartRows = 1024;  // the least rows of a part, but for the last one

// u (N, width): at hand, made for some steps at a time, or looked up in a table step by step.
class InputTerms {
 public:
  // u itself.
  explicit InputTerms(const at::Tensor& u)
      : rows_(u.size(0)), width_(u.size(-1)), part_(u.contiguous()), end_(rows_) {
    TORCH_CHECK(u.dim() == 2, "expected an input term (N, F), got ", u.sizes());
  }

  // W_ih x for x (N, I) and W_ih (width, I), packed or not: all of it if it is `kept`.
  static InputTerms products(const at::Tensor& x, const at::Tensor& weight_ih, int64_t width,
                             bool kept) {
    if (kept || x.size(0) < 2 * kPartRows) return InputTerms(input_term(x, weight_ih, width));
    check_input_term(x, weight_ih, width);
    InputTerms found(x.size(0), width, x);
    found.product_.emplace(weight_ih, width, x.scalar_type(), true);
    return found;
  }

  // The rows of a table (V, width) at places (N,), of type Long.
  static InputTerms looked_up(const at::Tensor& table, const at::Tensor& places) {
    TORCH_CHECK(
        table.dim() == 2 && table.stride(1) == 1 && places.dim() == 1 &&
            places.scalar_type() == at::kLong,
        "expected a table (V, F) with rows side by side, and places (N,) of type Long, got ",
        table.sizes(), " and ", places.sizes(), " of type ", places.scalar_type());
    InputTerms found(places.size(0), table.size(1), table);
    found.places_ = places.contiguous();
    const int64_t* first = found.places_.const_data_ptr<int64_t>();
    for (const int64_t place : at::IntArrayRef(first, found.rows_))
      TORCH_CHECK_INDEX(0 <= place && place < table.size(0), "expected rows 0 to ",
                        table.size(0) - 1, " of projected, got ", place);
    return found;
  }

  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }
  at::ScalarType type() const {
    return part_.defined() ? part_.scalar_type() : from_.scalar_type();
  }

  // All of u where it is at hand, else nothing.
  at::Tensor whole() const { return part_.defined() ? part_ : at::empty({0}, from_.options()); }

  // Those of step t (batch_sizes[t], width), whose rows begin at `start`. Steps are asked for in
  // their order; the next call may write over it.
  template <typename U>
  const U* of_step(at::IntArrayRef batch_sizes, int64_t t, int64_t start) {
    if (places_.defined())
      look_up<U>(start, batch_sizes[t]);
    else if (start >= end_)
      multiply(batch_sizes, t, start);
    return part_.const_data_ptr<U>() + (start - start_) * width_;
  }

 private:
  InputTerms(int64_t rows, int64_t width, const at::Tensor& from)
      : rows_(rows), width_(width), from_(from) {}

  void multiply(at::IntArrayRef batch_sizes, int64_t t, int64_t start) {
    start_ = end_ = start;
    for (; end_ < rows_ && end_ - start_ < kPartRows; ++t) end_ += batch_sizes[t];
    part_ = (*product_)(from_.slice(0, start_, end_));
  }

  template <typename U>
  void look_up(int64_t start, int64_t rows) {
    if (!part_.defined()) part_ = at::empty({rows, width_}, from_.options());  // steps get shorter
    start_ = start;
    const U* table = from_.const_data_ptr<U>();
    const int64_t* places = places_.const_data_ptr<int64_t>() + start;
    U* to = part_.mutable_data_ptr<U>();
    const int64_t grain = std::max<int64_t>(1, kThreadElements / width_);
    at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        std::copy_n(table + places[r] * from_.stride(0), width_, to + r * width_);
    });
  }

  int64_t rows_, width_;
  at::Tensor part_;  // rows [start_, end_) of u; looked up, those of a step
  int64_t start_ = 0, end_ = 0;
  at::Tensor from_, places_;  // x, or a table and places in it
  std::optional<Product> product_;
};

}  // namespace seq2seq
