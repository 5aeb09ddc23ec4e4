// What the search needs of a row of logits: the largest, the sum of their exponentials, the best
// words.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "elementwise.h"

namespace seq2seq {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

ALWAYS_INLINE float largest(const float* x, int64_t size) {
  float most = -kInfinity;
#pragma omp simd reduction(max : most)
  for (int64_t j = 0; j < size; ++j) most = std::max(most, x[j]);
  return most;
}

constexpr int64_t kWordLanes = 16;

// lanes = max(lanes, x), of kWordLanes each. A NaN of x changes nothing.
ALWAYS_INLINE void raise_lanes(const float* x, float* lanes) {
#pragma omp simd
  for (int64_t l = 0; l < kWordLanes; ++l) lanes[l] = x[l] > lanes[l] ? x[l] : lanes[l];
}

// sum_j exp(x_j - most). Lane l adds up every kWordLanes-th word from the l-th on, so that words of
// probability 0 at the end of a row change no bit: shortlists are as long as the longest of a
// batch.
inline float sum_of_exps(const float* x, int64_t size, float most) {
  float lanes[kWordLanes] = {}, last[kWordLanes];
  for (int64_t from = 0; from < size; from += kWordLanes) {
    const float* now = x + from;
    if (size - from < kWordLanes) {
      std::fill(std::copy(now, x + size, last), last + kWordLanes, -kInfinity);
      now = last;
    }
#pragma omp simd
    for (int64_t l = 0; l < kWordLanes; ++l) {
      const ScaledExp e = scaled_exp(clamp(now[l] - most, kLargestExponent));
      lanes[l] += e.power + e.power * e.rest;
    }
  }
  float sum = 0;
  for (const float of_lane : lanes) sum += of_lane;
  return sum;
}

// The best words of a row so far: the largest first, of equal ones the first.
class Best {
 public:
  // In room for `count` of each; `found` says how many there are.
  Best(float* values, int64_t* words, int64_t count, int64_t& found)
      : values_(values), words_(words), count_(count), found_(found) {}

  ALWAYS_INLINE void offer(float value, int64_t word) {
    if (found_ == count_ && !before(value, word, count_ - 1)) return;
    int64_t place = found_ < count_ ? found_++ : count_ - 1;
    for (; place > 0 && before(value, word, place - 1); --place) {
      values_[place] = values_[place - 1];
      words_[place] = words_[place - 1];
    }
    values_[place] = value;
    words_[place] = word;
  }

  // What a value has to reach to be among them.
  ALWAYS_INLINE float bound() const { return found_ == count_ ? values_[count_ - 1] : -kInfinity; }

 private:
  ALWAYS_INLINE bool before(float value, int64_t word, int64_t place) const {
    return value > values_[place] || (value == values_[place] && word < words_[place]);
  }

  float* values_;
  int64_t* words_;
  int64_t count_;
  int64_t& found_;
};

}  // namespace seq2seq
