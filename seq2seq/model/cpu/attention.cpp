// Attention of one decoder step: of every hypothesis over the words of its own sentence, without
// padding and without a copy of the memory.
//
// B sentences, K hypotheses each, S source steps, H features.

#include "attention.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

namespace seq2seq {
namespace {

using at::Tensor;

// Context (B, K, H) and weights (B, K, S), 0 on padding, of queries (B, K, H); score h . key.
// keys and states (B, S, H) may be views of larger ones; mask (B, S) is true on words, which come
// before the padding.
std::tuple<Tensor, Tensor> attention_step(const Tensor& query, const Tensor& keys,
                                          const Tensor& states, const Tensor& mask) {
  const int64_t B = query.size(0), K = query.size(1), H = query.size(2), S = keys.size(1);
  for (const Tensor& t : {query, keys, states})
    TORCH_CHECK(t.scalar_type() == at::kFloat && t.dim() == 3 && t.size(0) == B && t.size(2) == H &&
                    t.stride(2) == 1,
                "expected float (", B, ", steps, ", H, "), got ", t.sizes(), " of type ",
                t.scalar_type());
  TORCH_CHECK(states.size(1) == S && mask.scalar_type() == at::kBool &&
                  mask.sizes() == at::IntArrayRef({B, S}),
              "expected states of ", S, " steps and a bool mask (", B, ", ", S, "), got ",
              states.sizes(), " and ", mask.sizes());
  const Tensor queries = query.contiguous(), words = mask.contiguous();
  const Tensor context = at::empty({B, K, H}, query.options());
  const Tensor weights = at::zeros({B, K, S}, query.options());
  const float *q = queries.const_data_ptr<float>(), *m = keys.const_data_ptr<float>(),
              *v = states.const_data_ptr<float>();
  const bool* word = words.const_data_ptr<bool>();
  float *c = context.mutable_data_ptr<float>(), *w = weights.mutable_data_ptr<float>();
  const int64_t grain = std::max<int64_t>(1, (1 << 14) / (K * S * H));
  at::parallel_for(0, B, grain, [&](int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a) {
      const int64_t length = words_of(word + a * S, S);
      const float *key = m + a * keys.stride(0), *state = v + a * states.stride(0);
      for (int64_t k = a * K; k < (a + 1) * K; ++k) {
        for (int64_t s = 0; s < length; ++s)
          w[k * S + s] = dot(q + k * H, key + s * keys.stride(1), H);
        softmax(w + k * S, length);
        float* sum = c + k * H;
        std::fill_n(sum, H, 0.0f);
        for (int64_t s = 0; s < length; ++s) {
          const float weight = w[k * S + s], *from = state + s * states.stride(1);
#pragma omp simd
          for (int64_t j = 0; j < H; ++j) sum[j] += weight * from[j];
        }
      }
    }
  });
  return {context, weights};
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "attention_step(Tensor query, Tensor keys, Tensor states, Tensor mask) -> (Tensor context, "
      "Tensor weights)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("attention_step", &seq2seq::attention_step);
}
