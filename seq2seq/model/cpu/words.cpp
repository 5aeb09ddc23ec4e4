// The normaliser and the best words of each row of logits, each in one pass or two over a row that
// is in the cache.
//
// R rows, V words.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <tuple>
#include <vector>

#include "elementwise.h"

namespace seq2seq {
namespace {

using at::Tensor;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

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

ALWAYS_INLINE float largest(const float* x, int64_t size) {
  float most = -kInfinity;
#pragma omp simd reduction(max : most)
  for (int64_t j = 0; j < size; ++j) most = std::max(most, x[j]);
  return most;
}

constexpr int64_t kLanes = 16;

// sum_j exp(x_j - most). Lane l adds up every kLanes-th word from the l-th on, so that words of
// probability 0 at the end of a row change no bit: shortlists are as long as the longest of a
// batch.
float sum_of_exps(const float* x, int64_t size, float most) {
  float lanes[kLanes] = {}, last[kLanes];
  for (int64_t from = 0; from < size; from += kLanes) {
    const float* now = x + from;
    if (size - from < kLanes) {
      std::fill(std::copy(now, x + size, last), last + kLanes, -kInfinity);
      now = last;
    }
#pragma omp simd
    for (int64_t l = 0; l < kLanes; ++l) {
      const ScaledExp e = scaled_exp(clamp(now[l] - most, kLargestExponent));
      lanes[l] += e.power + e.power * e.rest;
    }
  }
  float sum = 0;
  for (const float of_lane : lanes) sum += of_lane;
  return sum;
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

// A row is searched by lanes: lane l of a chunk has every kLanes-th word of the chunk, from its
// l-th on. So the largest logits of all lanes of a chunk are found together, in one vector.
constexpr int64_t kChunk = 64 * kLanes;  // words

void lane_maxima(const float* x, int64_t V, std::vector<float>& into) {
  std::fill(into.begin(), into.end(), -kInfinity);
  for (int64_t from = 0; from < V; from += kLanes) {
    float* lanes = into.data() + from / kChunk * kLanes;
    if (from + kLanes <= V) {
#pragma omp simd
      for (int64_t l = 0; l < kLanes; ++l)
        lanes[l] = x[from + l] > lanes[l] ? x[from + l] : lanes[l];
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
    std::vector<float> maxima((V + kChunk - 1) / kChunk * kLanes);
    lane_maxima(x, V, maxima);
    const float bound = reached_by(maxima, count);
    float* top = value + r * count;
    int64_t *at = word + r * count, found = 0;
    const auto before = [&](int64_t j, int64_t place) {
      return x[j] > top[place] || (x[j] == top[place] && j < at[place]);
    };
    for (int64_t lane = 0; lane < static_cast<int64_t>(maxima.size()); ++lane) {
      if (maxima[lane] < bound) continue;
      const int64_t first = lane / kLanes * kChunk + lane % kLanes;
      for (int64_t j = first; j < std::min(first + kChunk, V); j += kLanes) {
        if (found == count && !before(j, count - 1)) continue;
        int64_t place = found < count ? found++ : count - 1;
        for (; place > 0 && before(j, place - 1); --place) {
          top[place] = top[place - 1];
          at[place] = at[place - 1];
        }
        top[place] = x[j];
        at[place] = j;
      }
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
