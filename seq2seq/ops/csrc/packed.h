// What the cells share: packed rows and steps, vectors that may be absent, gradients that may not have come.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace seq2seq {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kThreadElements = 1 << 13;  // of less work than this a thread of its own does not pay

template <typename F>
inline void for_rows(int64_t rows, int64_t hidden, const F& each) {
  const int64_t grain = std::max<int64_t>(1, kThreadElements / hidden);
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    const int64_t thread = at::get_thread_num();
    for (int64_t r = begin; r < end; ++r) each(r, thread);
  });
}

// A vector of the cell; zeros where the layer has none.
class Vector {
 public:
  Vector(const OptionalTensor& given, int64_t size)
      : held_(given ? given->contiguous() : at::zeros({size}, at::kFloat)) {
    TORCH_CHECK(held_.scalar_type() == at::kFloat && held_.numel() == size, "expected a float vector of ", size,
                " elements, got ", held_.numel(), " of type ", held_.scalar_type());
  }
  const float* data() const { return held_.const_data_ptr<float>(); }

 private:
  Tensor held_;
};

inline std::vector<int64_t> offsets(at::IntArrayRef batch_sizes) {
  std::vector<int64_t> starts{0};
  for (const int64_t rows : batch_sizes) starts.push_back(starts.back() + rows);
  return starts;
}

// Of packed (N, F), the row of every sequence's last step: (B, F).
inline Tensor last_rows(const Tensor& packed, at::IntArrayRef batch_sizes) {
  const int64_t steps = static_cast<int64_t>(batch_sizes.size());
  const std::vector<int64_t> starts = offsets(batch_sizes);
  std::vector<Tensor> parts;
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t longer = t + 1 < steps ? batch_sizes[t + 1] : 0;
    if (batch_sizes[t] > longer) parts.push_back(packed.slice(0, starts[t] + longer, starts[t] + batch_sizes[t]));
  }
  return at::cat(parts);
}

// Of packed output (N, H), h_{t-1} of every row: (N, H) with h_0, else without the first step's rows.
inline Tensor states_before(const Tensor& output, const OptionalTensor& h_0, at::IntArrayRef batch_sizes) {
  const std::vector<int64_t> starts = offsets(batch_sizes);
  std::vector<Tensor> parts;
  if (h_0) parts.push_back(h_0->to(output.scalar_type()));
  if (batch_sizes.front() == batch_sizes.back()) {
    const Tensor all_but_last = output.slice(0, 0, starts[batch_sizes.size() - 1]);
    if (!h_0) return all_but_last;
    parts.push_back(all_but_last);
  } else {
    for (size_t t = 1; t < batch_sizes.size(); ++t)
      parts.push_back(output.slice(0, starts[t - 1], starts[t - 1] + batch_sizes[t]));
  }
  return at::cat(parts);
}

// Where a gradient did not come it is zero.
inline Tensor float_or_zeros(const OptionalTensor& given, at::IntArrayRef sizes, const Tensor& like) {
  if (!given || !given->defined()) return at::zeros(sizes, like.options().dtype(at::kFloat));
  return given->to(at::kFloat).contiguous();
}

inline OptionalTensor contiguous(const OptionalTensor& t) {
  return t ? OptionalTensor(t->contiguous()) : t;
}

}  // namespace seq2seq
