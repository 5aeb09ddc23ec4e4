// One recurrence with its input term, or two of them at once, such as both directions of a layer:
// one on each of two threads. Neither waits for the other, where threads that share a step meet
// after each product and each pass.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/core/List.h>

#include <algorithm>
#include <numeric>
#include <string_view>
#include <tuple>
#include <vector>

#include "steps.h"
#include "vectors.h"

namespace seq2seq {

using Tensors = c10::List<std::optional<Tensor>>;

// The tensors of a recurrence: x, weight_ih, weight_hh, h_0, c_0; then gains and biases; with batch
// norm the running mean and var at the end. What is not there is none. Without a weight_ih x is the
// input term W_ih x itself; x of type Long are rows of a table of input terms, in weight_ih's
// place.
constexpr int64_t kX = 0, kWeightIh = 1, kWeightHh = 2, kH0 = 3, kC0 = 4, kFirstPart = 5;

// Gains and biases of a cell, the parts of its vectors: gain_ih, gain_hh, bias_ih, bias_hh, gain_c,
// bias_c, as far as the cell has them; as vectors.py has them.
struct Parts {
  int64_t gates;
  std::vector<int64_t> places;   // of each part; those of one place are added
  std::vector<int64_t> lengths;  // of each place, in multiples of H

  static Parts of(std::string_view cell) {
    if (has_cell(cell)) return {4, {0, 1, 2, 2, 3, 4}, {4, 4, 4, 1, 1}};
    if (cell == "gru") return {3, {0, 1, 2, 3}, {3, 3, 3, 3}};
    if (cell.substr(0, 8) == "separate") return {1, {0, 1, 2, 2}, {1, 1, 1}};
    return {1, {0, 1, 1}, {1, 1}};
  }

  size_t count() const { return places.size(); }

  // Where a place begins, in multiples of H.
  int64_t start(int64_t place) const {
    return std::accumulate(lengths.begin(), lengths.begin() + place, int64_t(0));
  }

  // The vectors, from the parts; a place without any is zero.
  Tensor join(const OptionalTensor* parts, int64_t H) const {
    const Tensor joined = at::zeros({start(lengths.size()) * H}, at::kFloat);
    for (size_t i = 0; i < count(); ++i) {
      if (!parts[i]) continue;
      check_vectors(*parts[i], lengths[places[i]] * H);
      const Tensor part = parts[i]->contiguous();
      add(part.const_data_ptr<float>(), part.numel(),
          joined.mutable_data_ptr<float>() + start(places[i]) * H);
    }
    return joined;
  }

  // The gradient of a part, from that of the vectors. Gradients of one place share no memory.
  Tensor gradient(const Tensor& dvectors, size_t part, int64_t H) const {
    const int64_t place = places[part], from = start(place) * H;
    const Tensor own = dvectors.slice(0, from, from + lengths[place] * H);
    return part > 0 && places[part - 1] == place ? own.clone() : own;
  }
};

// What run(0) and run(1) return, one after the other; run(0) alone for one recurrence. There are
// `given` tensors in all, of which each recurrence has `count`.
template <typename F>
std::vector<Tensor> for_recurrences(size_t given, size_t count, const F& run) {
  TORCH_CHECK(given == count || given == 2 * count, "expected ", count,
              " tensors for each of one or two recurrences, got ", given);
  if (given == count) return run(0);
  std::vector<Tensor> found[2];
  const at::ThreadLocalState callers;  // without autograd, as here
  at::parallel_for(0, 2, 1, [&](int64_t begin, int64_t end) {
    const at::ThreadLocalStateGuard as_callers(callers);
    for (int64_t i = begin; i < end; ++i) found[i] = run(i);
  });
  found[0].insert(found[0].end(), found[1].begin(), found[1].end());
  return found[0];
}

// The input term of a recurrence, all of it if it is `kept`.
inline InputTerms input_terms(const OptionalTensor* own, int64_t width, bool kept) {
  const Tensor& x = own[kX].value();
  const OptionalTensor& weight_ih = own[kWeightIh];
  const bool by_place = x.scalar_type() == at::kLong;
  TORCH_CHECK(!by_place || (weight_ih && !kept), "expected a table, and no backward pass");
  const InputTerms u = by_place    ? InputTerms::looked_up(*weight_ih, x)
                       : weight_ih ? InputTerms::products(x, *weight_ih, width, kept)
                                   : InputTerms(x);
  TORCH_CHECK(u.width() == width, "expected an input term (N, ", width, "), got [", u.rows(), ", ",
              u.width(), "]");
  return u;
}

// run(tensors, statistics, u, vectors) for each recurrence, which returns what the operator of one
// recurrence does; after that come u (N, width), as far as it is at hand, and the vectors.
template <typename F>
std::vector<Tensor> forward_of_each(const Tensors& tensors, std::string_view cell, int64_t width,
                                    size_t statistics, bool save, const F& run) {
  const Parts parts = Parts::of(cell);
  const size_t count = kFirstPart + parts.count() + statistics;
  const std::vector<OptionalTensor> all = tensors.vec();
  return for_recurrences(all.size(), count, [&](size_t i) {
    const OptionalTensor* own = all.data() + i * count;
    const InputTerms u = input_terms(own, width, save);
    const Tensor vectors = parts.join(own + kFirstPart, width / parts.gates);
    auto found = std::apply([](const auto&... t) { return std::vector<Tensor>{t...}; },
                            run(own, own + count - statistics, u, vectors));
    found.insert(found.end(), {u.whole(), vectors});
    return found;
  });
}

// run(incoming, tensors, statistics, results, weight_grad) for each recurrence, which returns the
// gradients of u, weight_hh, h_0, c_0 and the vectors. incoming are d_output, d_h_n and d_c_n;
// `results` are those of `forward_of_each` but for h_n and c_n, which a caller may change.
// Returns the gradient of each tensor; an empty one where none is `needed`.
template <typename F>
std::vector<Tensor> backward_of_each(const Tensors& incoming, const Tensors& tensors,
                                     const std::vector<Tensor>& results, std::string_view cell,
                                     size_t statistics, const c10::List<bool>& needed,
                                     const F& run) {
  const Parts parts = Parts::of(cell);
  const size_t count = kFirstPart + parts.count() + statistics;
  const std::vector<OptionalTensor> gradients = incoming.vec(), all = tensors.vec();
  return for_recurrences(all.size(), count, [&](size_t i) {
    const auto wanted = [&](size_t place) { return needed.get(i * count + place); };
    const OptionalTensor* own = all.data() + i * count;
    const auto [du, dweight_hh, dh_0, dc_0, dvectors] = run(
        gradients.data() + i * gradients.size() * count / all.size(), own, own + count - statistics,
        results.data() + i * results.size() * count / all.size(), wanted(kWeightHh));
    const Tensor nothing = at::empty({0}, at::kFloat);
    const auto [dx, dweight_ih] =
        own[kWeightIh]
            ? input_term_backward(du, *own[kX], *own[kWeightIh], wanted(kX), wanted(kWeightIh))
            : std::tuple(du, nothing);
    std::vector<Tensor> found{dx, dweight_ih, dweight_hh, dh_0, dc_0};
    for (size_t part = 0; part < count - kFirstPart; ++part)
      found.push_back(part < parts.count() && wanted(kFirstPart + part)
                          ? parts.gradient(dvectors, part, du.size(1) / parts.gates)
                          : nothing);
    return found;
  });
}

}  // namespace seq2seq
