// What attention of one step and of all steps share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "elementwise.h"

namespace seq2seq {

ALWAYS_INLINE float dot(const float* a, const float* b, int64_t size) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < size; ++j) sum += a[j] * b[j];
  return sum;
}

// The number of words of a sentence, from its row of a mask (B, S).
inline int64_t words_of(const bool* mask, int64_t steps) {
  return std::count(mask, mask + steps, true);
}

// Turns scores into their softmax.
inline void softmax(float* scores, int64_t count) {
  float most = -std::numeric_limits<float>::infinity(), sum = 0;
  for (int64_t s = 0; s < count; ++s) most = std::max(most, scores[s]);
  for (int64_t s = 0; s < count; ++s) sum += scores[s] = std::exp(scores[s] - most);
  for (int64_t s = 0; s < count; ++s) scores[s] /= sum;
}

}  // namespace seq2seq
