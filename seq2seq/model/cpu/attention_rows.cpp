// Attention of all steps of a batch in training, forward and backward, without work on padding.
//
// B sentences, N packed rows of T target steps, S source steps, H features. For a row h of sentence
// b, with its keys k and states m:
//
//     a = softmax_s(h . k_s)    context = sum_s a_s m_s
//     da_s = dcontext . m_s     de_s = a_s (da_s - sum_r a_r da_r)
//     dh = sum_s de_s k_s       dk_s += de_s h       dm_s += a_s dcontext

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "attention.h"

namespace seq2seq {
namespace {

using at::Tensor;

// y += a x.
ALWAYS_INLINE void add_scaled(float a, const float* x, int64_t size, float* y) {
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) y[j] += a * x[j];
}

// The rows of each sentence, in the order of its steps, and the number of its words.
struct Sentences {
  std::vector<std::vector<int64_t>> rows;
  std::vector<int64_t> words;

  // index (N,) is b * steps + t of each row; mask (B, S) is true on words.
  Sentences(const Tensor& index, int64_t steps, const Tensor& mask)
      : rows(mask.size(0)), words(mask.size(0)) {
    const int64_t B = mask.size(0), S = mask.size(1);
    const int64_t* place = index.const_data_ptr<int64_t>();
    for (int64_t n = 0; n < index.numel(); ++n) {
      TORCH_CHECK(0 <= place[n] && place[n] < B * steps, "expected places below ", B * steps,
                  ", got ", place[n]);
      rows[place[n] / steps].push_back(n);
    }
    const bool* word = mask.const_data_ptr<bool>();
    for (int64_t b = 0; b < B; ++b) words[b] = words_of(word + b * S, S);
  }

  template <typename F>
  void for_each(const F& each) const {
    const int64_t B = static_cast<int64_t>(rows.size());
    at::parallel_for(0, B, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) each(b, rows[b], words[b]);
    });
  }
};

void check(const Tensor& query, const Tensor& keys, const Tensor& states, const Tensor& mask,
           const Tensor& index) {
  const int64_t B = mask.size(0), S = mask.size(1), H = query.size(1), N = query.size(0);
  for (const Tensor& t : {query, keys, states})
    TORCH_CHECK(t.scalar_type() == at::kFloat && t.is_contiguous() &&
                    (t.dim() == 2 ? t.sizes() == at::IntArrayRef({N, H})
                                  : t.sizes() == at::IntArrayRef({B, S, H})),
                "expected contiguous float queries (", N, ", ", H, ") and memory (", B, ", ", S,
                ", ", H, "), got ", t.sizes(), " of type ", t.scalar_type());
  TORCH_CHECK(query.dim() == 2 && keys.dim() == 3 && states.dim() == 3 && mask.is_contiguous() &&
                  mask.scalar_type() == at::kBool && index.scalar_type() == at::kLong &&
                  index.is_contiguous() && index.sizes() == at::IntArrayRef({N}),
              "expected a bool mask and int64 places (", N, ",), got ", mask.scalar_type(), " and ",
              index.sizes(), " of type ", index.scalar_type());
}

void check_weights(const Tensor& weights, const Tensor& query, const Tensor& mask) {
  TORCH_CHECK(weights.sizes() == at::IntArrayRef({query.size(0), mask.size(1)}) &&
                  weights.is_contiguous() && weights.scalar_type() == at::kFloat,
              "expected contiguous float weights or scores (", query.size(0), ", ", mask.size(1),
              "), got ", weights.sizes(), " of type ", weights.scalar_type());
}

// Context (N, H) and weights (N, S), 0 on padding, of queries (N, H); keys and states (B, S, H).
std::tuple<Tensor, Tensor> attention(const Tensor& query, const Tensor& keys, const Tensor& states,
                                     const Tensor& mask, const Tensor& index, int64_t steps) {
  check(query, keys, states, mask, index);
  const int64_t N = query.size(0), H = query.size(1), S = mask.size(1);
  const Tensor context = at::zeros({N, H}, query.options()),
               weights = at::zeros({N, S}, query.options());
  const float *q = query.const_data_ptr<float>(), *k = keys.const_data_ptr<float>(),
              *m = states.const_data_ptr<float>();
  float *c = context.mutable_data_ptr<float>(), *w = weights.mutable_data_ptr<float>();
  Sentences(index, steps, mask)
      .for_each([&](int64_t b, const std::vector<int64_t>& rows, int64_t words) {
        const float *key = k + b * S * H, *state = m + b * S * H;
        for (const int64_t n : rows) {
          float* a = w + n * S;
          for (int64_t s = 0; s < words; ++s) a[s] = dot(q + n * H, key + s * H, H);
          softmax(a, words);
          for (int64_t s = 0; s < words; ++s) add_scaled(a[s], state + s * H, H, c + n * H);
        }
      });
  return {context, weights};
}

// The gradients of queries (N, H) and scores (N, S), 0 on padding.
std::tuple<Tensor, Tensor> attention_query_backward(const Tensor& d_given,
                                                    const std::optional<Tensor>& d_weights,
                                                    const Tensor& keys, const Tensor& states,
                                                    const Tensor& weights, const Tensor& mask,
                                                    const Tensor& index, int64_t steps) {
  const Tensor d = d_given.contiguous();
  const Tensor dw = d_weights ? d_weights->contiguous() : Tensor();
  check(d, keys, states, mask, index);
  check_weights(weights, d, mask);
  if (dw.defined()) check_weights(dw, d, mask);
  const int64_t H = d.size(1), S = mask.size(1);
  const Tensor dquery = at::zeros_like(d), dscores = at::zeros_like(weights);
  const float *k = keys.const_data_ptr<float>(), *m = states.const_data_ptr<float>(),
              *w = weights.const_data_ptr<float>(), *dc = d.const_data_ptr<float>(),
              *da = dw.defined() ? dw.const_data_ptr<float>() : nullptr;
  float *dq = dquery.mutable_data_ptr<float>(), *ds = dscores.mutable_data_ptr<float>();
  Sentences(index, steps, mask)
      .for_each([&](int64_t b, const std::vector<int64_t>& rows, int64_t words) {
        const float *key = k + b * S * H, *state = m + b * S * H;
        for (const int64_t n : rows) {
          const float* a = w + n * S;
          float *de = ds + n * S, mean = 0;
          for (int64_t s = 0; s < words; ++s) {
            de[s] = dot(dc + n * H, state + s * H, H) + (da ? da[n * S + s] : 0.0f);
            mean += a[s] * de[s];
          }
          for (int64_t s = 0; s < words; ++s) {
            de[s] = a[s] * (de[s] - mean);
            add_scaled(de[s], key + s * H, H, dq + n * H);
          }
        }
      });
  return {dquery, dscores};
}

// The gradients of keys and states (B, S, H), from those of scores (N, S) and contexts (N, H).
std::tuple<Tensor, Tensor> attention_memory_backward(const Tensor& d_scores, const Tensor& d_given,
                                                     const Tensor& query, const Tensor& weights,
                                                     const Tensor& mask, const Tensor& index,
                                                     int64_t steps) {
  const int64_t B = mask.size(0), S = mask.size(1), H = query.size(1);
  const Tensor d = d_given.contiguous(), scores = d_scores.contiguous(),
               dkeys = at::zeros({B, S, H}, query.options()),
               dstates = at::zeros({B, S, H}, query.options());
  check(query, dkeys, dstates, mask, index);
  check(d, dkeys, dstates, mask, index);
  check_weights(weights, query, mask);
  check_weights(scores, query, mask);
  const float *q = query.const_data_ptr<float>(), *w = weights.const_data_ptr<float>(),
              *de = scores.const_data_ptr<float>(), *dc = d.const_data_ptr<float>();
  float *dk = dkeys.mutable_data_ptr<float>(), *dm = dstates.mutable_data_ptr<float>();
  Sentences(index, steps, mask)
      .for_each([&](int64_t b, const std::vector<int64_t>& rows, int64_t words) {
        for (const int64_t n : rows)
          for (int64_t s = 0; s < words; ++s) {
            const int64_t at = (b * S + s) * H;
            add_scaled(de[n * S + s], q + n * H, H, dk + at);
            add_scaled(w[n * S + s], dc + n * H, H, dm + at);
          }
      });
  return {dkeys, dstates};
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "attention(Tensor query, Tensor keys, Tensor states, Tensor mask, Tensor index, int steps) "
      "-> (Tensor context, Tensor weights)");
  library.def(
      "attention_query_backward(Tensor d_context, Tensor? d_weights, Tensor keys, Tensor states, "
      "Tensor weights, Tensor mask, Tensor index, int steps) -> (Tensor query, Tensor scores)");
  library.def(
      "attention_memory_backward(Tensor d_scores, Tensor d_context, Tensor query, Tensor weights, "
      "Tensor mask, Tensor index, int steps) -> (Tensor keys, Tensor states)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("attention", &seq2seq::attention);
  library.impl("attention_query_backward", &seq2seq::attention_query_backward);
  library.impl("attention_memory_backward", &seq2seq::attention_memory_backward);
}
