// Logits of a few words of each sentence: rows of the output layer's weight are read where they
// lie.
//
// B sentences, K hypotheses each, R = B * K rows, W words of a sentence, H features, V vocabulary.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "elementwise.h"

namespace seq2seq {
namespace {

using at::Tensor;

constexpr int64_t kTogether = 4;  // words whose sums grow side by side

// The dot products of x (H) with kTogether rows of the weight.
ALWAYS_INLINE void dots(const float* x, const float* const* w, int64_t H, float* into) {
  const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
  float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
  for (int64_t j = 0; j < H; ++j) {
    s0 += x[j] * w0[j];
    s1 += x[j] * w1[j];
    s2 += x[j] * w2[j];
    s3 += x[j] * w3[j];
  }
  into[0] = s0;
  into[1] = s1;
  into[2] = s2;
  into[3] = s3;
}

void check(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
           const Tensor& words) {
  for (const Tensor& t : {x, weight})
    TORCH_CHECK(t.scalar_type() == at::kFloat && t.dim() == 2 && t.is_contiguous() &&
                    t.size(1) == x.size(1),
                "expected contiguous float x (R, H) and weight (V, H), got ", x.sizes(),
                " of type ", x.scalar_type(), " and ", weight.sizes(), " of type ",
                weight.scalar_type());
  TORCH_CHECK(!bias || (bias->scalar_type() == at::kFloat && bias->is_contiguous() &&
                        bias->sizes() == at::IntArrayRef({weight.size(0)})),
              "expected a contiguous float bias (", weight.size(0), "), got ", bias->sizes());
  TORCH_CHECK(words.scalar_type() == at::kInt && words.dim() == 2 && words.is_contiguous() &&
                  words.size(0) > 0 && x.size(0) % words.size(0) == 0,
              "expected contiguous int32 words (B, W) for ", x.size(0), " rows, got ",
              words.sizes(), " of type ", words.scalar_type());
  const int32_t* word = words.const_data_ptr<int32_t>();
  TORCH_CHECK(
      std::all_of(word, word + words.numel(), [&](int32_t w) { return w < weight.size(0); }),
      "expected words below ", weight.size(0));
}

// x W^T + bias (R, W) for the words (B, W) of each sentence; minus infinity for words below 0,
// which come last.
Tensor shortlist_logits(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                        const Tensor& words) {
  check(x, weight, bias, words);
  const int64_t B = words.size(0), W = words.size(1), H = x.size(1), K = x.size(0) / B;
  const Tensor logits = at::empty({x.size(0), W}, x.options());
  const float *rows = x.const_data_ptr<float>(), *from = weight.const_data_ptr<float>(),
              *b = bias ? bias->const_data_ptr<float>() : nullptr;
  const int32_t* word = words.const_data_ptr<int32_t>();
  float* to = logits.mutable_data_ptr<float>();
  at::parallel_for(0, B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a) {
      const int32_t* own = word + a * W;
      const int64_t count = std::find_if(own, own + W, [](int32_t w) { return w < 0; }) - own;
      for (int64_t first = 0; first < count; first += kTogether) {
        const int64_t together = std::min(kTogether, count - first);
        const float* w[kTogether];
        for (int64_t j = 0; j < kTogether; ++j)
          w[j] = from + own[first + std::min(j, together - 1)] * H;
        for (int64_t k = a * K; k < (a + 1) * K; ++k) {
          float sums[kTogether];
          dots(rows + k * H, w, H, sums);
          for (int64_t j = 0; j < together; ++j)
            to[k * W + first + j] = sums[j] + (b ? b[own[first + j]] : 0.0f);
        }
      }
      for (int64_t k = a * K; k < (a + 1) * K; ++k)
        std::fill(to + k * W + count, to + (k + 1) * W, -std::numeric_limits<float>::infinity());
    }
  });
  return logits;
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def("shortlist_logits(Tensor x, Tensor weight, Tensor? bias, Tensor words) -> Tensor");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("shortlist_logits", &seq2seq::shortlist_logits);
}
