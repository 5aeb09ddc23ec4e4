// The normaliser and the best words of each row of logits, each in one pass or two over a row that
// is in the cache.
//
// R rows, V words.

#include "words.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <tuple>
#include <vector>

namespace seq2seq {
namespace {

using at::Tensor;

void check(const Tensor& logits) {
  TORCH_CHECK(logits.scalar_type() == at::kFloat && logits.dim() == 2 && logits.is_contiguous(),
              "expected contiguous float logits (R, V), got ", logits.sizes(), " of type ",
              logits.scalar_type());
}

template <typename F>
void for_rows(const Tensor& logits, const F& each) {
  const int64_t V = logits.size(1),
                grain = std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(V, 1));
  const float* x = logits.const_data_ptr<float>();
  at::parallel_for(0, logits.size(0), grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) each(r, x + r * V);
  });
}

// log sum_j exp x_j of each row (R,). A NaN makes it one, as does a row without a finite number.
Tensor log_sum_exp(const Tensor& logits) {
  check(logits);
  const int64_t V = logits.size(1);
  const Tensor result = at::empty({logits.size(0)}, logits.options());
  float* into = result.mutable_data_ptr<float>();
  for_rows(logits, [&](int64_t r, const float* x) {
    const float most = largest(x, V);
    into[r] = most + std::log(sum_of_exps(x, V, most));
  });
  return result;
}

// A row is searched by lanes: lane l of a chunk has every kWordLanes-th word of the chunk, from its
// l-th on. So the largest logits of all lanes of a chunk are found together, in one vector.
constexpr int64_t kChunk = 64 * kWordLanes;  // words

void lane_maxima(const float* x, int64_t V, std::vector<float>& into) {
  std::fill(into.begin(), into.end(), -kInfinity);
  for (int64_t from = 0; from < V; from += kWordLanes) {
    float* lanes = into.data() + from / kChunk * kWordLanes;
    if (from + kWordLanes <= V) {
      raise_lanes(x + from, lanes);
    } else {
      for (int64_t l = 0; from + l < V; ++l) lanes[l] = std::max(lanes[l], x[from + l]);
    }
  }
}

// A number that at least `count` of the values reach; minus infinity if there are fewer.
float reached_by(std::vector<float> values, int64_t count) {
  if (static_cast<int64_t>(values.size()) < count) return -kInfinity;
  std::nth_element(values.begin(), values.begin() + (count - 1), values.end(), std::greater<>());
  return values[count - 1];
}

// The largest `count` of each row, the largest first and of equal ones the first: values and words
// (R, count). Only lanes that hold one of them are searched.
std::tuple<Tensor, Tensor> best_words(const Tensor& logits, int64_t count) {
  check(logits);
  const int64_t V = logits.size(1), R = logits.size(0);
  TORCH_CHECK(0 < count && count <= V, "expected a count from 1 to ", V, ", got ", count);
  const Tensor values = at::empty({R, count}, logits.options());
  const Tensor words = at::empty({R, count}, logits.options().dtype(at::kLong));
  float* value = values.mutable_data_ptr<float>();
  int64_t* word = words.mutable_data_ptr<int64_t>();
  for_rows(logits, [&](int64_t r, const float* x) {
    std::vector<float> maxima((V + kChunk - 1) / kChunk * kWordLanes);
    lane_maxima(x, V, maxima);
    const float bound = reached_by(maxima, count);
    int64_t found = 0;
    Best best(value + r * count, word + r * count, count, found);
    for (int64_t lane = 0; lane < static_cast<int64_t>(maxima.size()); ++lane) {
      if (maxima[lane] < bound) continue;
      const int64_t first = lane / kWordLanes * kChunk + lane % kWordLanes;
      for (int64_t j = first; j < std::min(first + kChunk, V); j += kWordLanes) best.offer(x[j], j);
    }
  });
  return {values, words};
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def("log_sum_exp(Tensor logits) -> Tensor");
  library.def("best_words(Tensor logits, int count) -> (Tensor values, Tensor words)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("log_sum_exp", &seq2seq::log_sum_exp);
  library.impl("best_words", &seq2seq::best_words);
}
