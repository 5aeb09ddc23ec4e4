// The best next words of each row by log-probability, straight from the output layer's product: its
// logits are looked at while they are in the first cache, and never written to memory.
//
// R rows, K inner size, V vocabulary.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <tuple>
#include <vector>

#include "panels.h"
#include "words.h"

namespace seq2seq {
namespace {

using at::Tensor;

constexpr int64_t kPanels = 8;  // of W that are multiplied before their logits are looked at
constexpr int64_t kWidth = kPanels * kTileColumns;  // words of a chunk

// The best `count` of some of the words, for all rows.
struct Found {
  Found(int64_t rows, int64_t count) : values(rows * count), words(rows * count), found(rows) {}

  Best of(int64_t row) {
    const int64_t count = static_cast<int64_t>(values.size() / found.size());
    return {values.data() + row * count, words.data() + row * count, count, found[row]};
  }

  std::vector<float> values;
  std::vector<int64_t> words, found;
};

// What is known of a row's words of one chunk: the largest logit, and sum exp(x - largest).
struct Part {
  float most, sum;
};

// The product's operands: x (R, K), a packed W and a bias (V,), of which the words [0, V) are real.
// No word of `forbidden` is a best one.
struct Output {
  const Tensor &x, &panels, &bias;
  int64_t V;
  at::IntArrayRef forbidden;
};

// Looks at the logits (kWidth) of a row's words from `first` on; those beyond V are -inf.
ALWAYS_INLINE Part look(const Output& output, float* logits, int64_t first, Best best) {
  float lanes[kWordLanes];
  const auto maxima = [&] {
    std::copy(logits, logits + kWordLanes, lanes);
    for (int64_t from = kWordLanes; from < kWidth; from += kWordLanes)
      raise_lanes(logits + from, lanes);
  };
  maxima();
  const float most = largest(lanes, kWordLanes);
  // Without a finite logit the sum is negligible, or NaN where a logit is.
  const Part part{most, sum_of_exps(logits, kWidth, most == -kInfinity ? 0.0f : most)};
  bool is_changed = false;
  for (const int64_t word : output.forbidden)
    if (first <= word && word < first + kWidth) {
      logits[word - first] = -kInfinity;
      is_changed = true;
    }
  if (is_changed) maxima();
  for (int64_t l = 0; l < kWordLanes; ++l) {
    if (!(lanes[l] >= best.bound())) continue;
    for (int64_t j = l; j < kWidth; j += kWordLanes)
      if (logits[j] > -kInfinity) best.offer(logits[j], first + j);
  }
  return part;
}

// All rows' logits of the words of one chunk.
template <typename P>
void multiply_chunk(const Output& output, int64_t chunk, int64_t chunks, Part* parts,
                    Found& found) {
  const int64_t R = output.x.size(0), K = output.x.size(1), cells = output.panels.size(1),
                first = chunk * kWidth, panel = chunk * kPanels,
                end = std::min(panel + kPanels, output.panels.size(0)),
                most = blocks_of(R, blocks_of(R, kTileRows));
  const float *b = static_cast<const float*>(output.panels.const_data_ptr()),
              *bias = output.bias.const_data_ptr<float>();
  alignas(64) float logits[kTileRows * kWidth];
  Rows<P, P> all(output.x.const_data_ptr<P>(), K, output.x.stride(0));
  for (int64_t row = 0; row < R; row += most) {
    const int64_t rows = std::min(most, R - row);
    std::fill(logits, logits + kTileRows * kWidth, -kInfinity);
    for (int64_t from = 0; from < cells; from += kBlockCells) {
      const int64_t size = std::min(kBlockCells, cells - from);
      const ByRow a = all.of(row, rows, from, size);
      for (int64_t at = panel; at < end; ++at) {
        const int64_t column = at * kTileColumns;
        write_tile<P>(rows, output.V - column, a, b + (at * cells + from) * kTileColumns, size,
                      logits + column - first, kWidth, from == 0 ? bias + column : nullptr,
                      from > 0);
      }
    }
    for (int64_t r = 0; r < rows; ++r)
      parts[(row + r) * chunks + chunk] =
          look(output, logits + r * kWidth, first, found.of(row + r));
  }
}

template <typename P>
void multiply(const Output& output, int64_t count, Tensor& log_probs, Tensor& words) {
  const int64_t R = output.x.size(0), chunks = blocks_of(output.panels.size(0), kPanels);
  std::vector<Part> parts(R * chunks);
  std::vector<Found> shares;
  std::mutex mutex;
  const int64_t grain = blocks_of(kThreadProducts, R * output.x.size(1) * kWidth);
  at::parallel_for(0, chunks, grain, [&](int64_t begin, int64_t end) {
    Found found(R, count);
    for (int64_t chunk = begin; chunk < end; ++chunk)
      multiply_chunk<P>(output, chunk, chunks, parts.data(), found);
    const std::lock_guard<std::mutex> lock(mutex);
    shares.push_back(std::move(found));
  });
  float* into = log_probs.mutable_data_ptr<float>();
  int64_t* word = words.mutable_data_ptr<int64_t>();
  at::parallel_for(0, R, 1 << 6, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const Part* own = parts.data() + r * chunks;
      float most = -kInfinity, sum = 0;
      for (int64_t c = 0; c < chunks; ++c) most = std::max(most, own[c].most);
      for (int64_t c = 0; c < chunks; ++c)
        sum += own[c].most == -kInfinity ? own[c].sum : own[c].sum * std::exp(own[c].most - most);
      float* values = into + r * count;
      int64_t found = 0;
      Best best(values, word + r * count, count, found);
      for (Found& share : shares)
        for (int64_t i = r * count; i < r * count + share.found[r]; ++i)
          best.offer(share.values[i], share.words[i]);
      const float normaliser = most + std::log(sum);
      for (int64_t i = 0; i < found; ++i) values[i] -= normaliser;
      for (int64_t i = found; i < count; ++i) {
        values[i] = normaliser == normaliser ? -kInfinity : normaliser;
        word[r * count + i] = 0;
      }
    }
  });
}

// The best `count` words of each row but the forbidden ones, for logits x W^T + bias: their
// log-probabilities and words (R, count), the likeliest first and of equal ones the first. Where
// there are fewer, the rest is -inf; all are NaN where a logit is.
std::tuple<Tensor, Tensor> best_next_words(const Tensor& given, const Tensor& panels,
                                           const Tensor& bias, at::IntArrayRef forbidden,
                                           int64_t count) {
  const int64_t V = bias.size(0);
  const at::ScalarType type = panels.scalar_type();
  const bool pairs = type == at::kBFloat16;
  TORCH_CHECK(given.dim() == 2 && given.size(1) > 0 && panels.dim() == 3 &&
                  panels.size(0) == blocks_of(V, kTileColumns) && panels.is_contiguous() &&
                  panels.size(2) * panels.element_size() == kTileColumns * sizeof(float),
              "expected x (R, K) and a packed weight (", V, ", K), got ", given.sizes(), " and ",
              panels.sizes());
  TORCH_CHECK(bias.scalar_type() == at::kFloat && bias.dim() == 1 && bias.is_contiguous(),
              "expected a contiguous float bias (V), got ", bias.sizes(), " of type ",
              bias.scalar_type());
  TORCH_CHECK(panels.size(1) == blocks_of(given.size(1), pairs ? Cell<BFloat16>::kValues : 1),
              "expected a packed weight (", V, ", ", given.size(1), "), got ", panels.sizes());
  TORCH_CHECK(0 < count && count <= V, "expected a count from 1 to ", V, ", got ", count);
  const Tensor x = given.to(type).contiguous();
  Tensor log_probs = at::empty({x.size(0), count}, bias.options()),
         words = at::empty({x.size(0), count}, bias.options().dtype(at::kLong));
  if (x.size(0) == 0) return {log_probs, words};
  const Output output{x, panels, bias, V, forbidden};
  if (pairs)
    multiply<BFloat16>(output, count, log_probs, words);
  else
    multiply<float>(output, count, log_probs, words);
  return {log_probs, words};
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "best_next_words(Tensor x, Tensor weight, Tensor bias, int[] forbidden, int count)"
      " -> (Tensor log_probs, Tensor words)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("best_next_words", &seq2seq::best_next_words);
}
