// Cross-entropy of logits and its gradients; loss.py has the equations.
//
// N rows, V classes. P is the type of the logits, float or bfloat16; everything else is float.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "elementwise.h"

namespace seq2seq {
namespace {

using at::Tensor;

constexpr int64_t kPartRows = 64;  // rows whose gradients of the bias are summed together
static_assert(kPartRows % 2 == 0, "the two rows of a pair stay together");

struct Losses {
  double smoothed = 0, nll = 0;
};

struct Settings {
  float smoothing, r_drop, divisor;  // e and a of the equations; what the gradients are divided by
};

// What is known of a row of logits z with bias.
struct Row {
  const float* exponentials;  // (V,) exp(z - largest z)
  float sum;                  // of the exponentials
  double log_sum;             // log(sum(exp(z)))
  Losses losses;
};

// A row of logits without bias. `z` has room for V; it holds the exponentials afterwards.
template <typename P>
Row exponentiate(const P* logits, const float* bias, int64_t V, int64_t target,
                 const Settings& with, float* z) {
  float largest = -std::numeric_limits<float>::infinity(), sum_logits = 0, sum = 0;
#pragma omp simd reduction(max : largest) reduction(+ : sum_logits)
  for (int64_t k = 0; k < V; ++k) {
    z[k] = as_float(logits[k]) + bias[k];
    largest = z[k] > largest ? z[k] : largest;
    sum_logits += z[k];
  }
  const float at_target = z[target];
#pragma omp simd reduction(+ : sum)
  for (int64_t k = 0; k < V; ++k) {
    const ScaledExp e = scaled_exp(clamp(z[k] - largest, kLargestExponent));
    z[k] = e.power + e.power * e.rest;
    sum += z[k];
  }
  const double log_sum = static_cast<double>(largest) + std::log(static_cast<double>(sum));
  const double nll = log_sum - at_target, mean = sum_logits / static_cast<double>(V);
  const double smoothed = (1 - with.smoothing) * nll + with.smoothing * (log_sum - mean);
  return {z, sum, log_sum, {smoothed, nll}};
}

// One row of logits without bias, in place: (p - q) / divisor. `z` has room for V. Adds that to
// dbias too, unless it is null: then the logits stay as they are.
template <typename P>
Losses row_loss(P* logits, const float* bias, int64_t V, int64_t target, const Settings& with,
                float* z, float* dbias) {
  const Row row = exponentiate(logits, bias, V, target, with, z);
  if (dbias) {
    const float scale = 1.0f / (row.sum * with.divisor);
    const float even = with.smoothing / (static_cast<float>(V) * with.divisor);
    z[target] -= (1.0f - with.smoothing) * row.sum;
#pragma omp simd
    for (int64_t k = 0; k < V; ++k) {
      const float gradient = z[k] * scale - even;
      dbias[k] += gradient;
      logits[k] = rounded<P>(gradient);
    }
  }
  return row.losses;
}

struct Gradients {
  float one, two;
};

// Two rows of logits of one target, as row_loss takes each, with R-Drop. `z` has room for 2 V.
template <typename P>
Losses pair_loss(P* first, P* second, const float* bias, int64_t V, int64_t target,
                 const Settings& with, float* z, float* dbias) {
  const Row one = exponentiate(first, bias, V, target, with, z);
  const Row two = exponentiate(second, bias, V, target, with, z + V);
  const float shift = static_cast<float>(two.log_sum - one.log_sum);
  float by_one = 0, by_two = 0;  // sums of exponentials times log(p / r)
#pragma omp simd reduction(+ : by_one, by_two)
  for (int64_t k = 0; k < V; ++k) {
    const float d = as_float(first[k]) - as_float(second[k]) + shift;
    by_one += one.exponentials[k] * d;
    by_two += two.exponentials[k] * d;
  }
  const float kl_one = by_one / one.sum, kl_two = -by_two / two.sum;
  if (dbias) {
    const float half = 0.5f / with.divisor, weight = 0.5f * with.r_drop * half;
    const float even = half * with.smoothing / static_cast<float>(V);
    const float hit = half * (1.0f - with.smoothing);  // subtracted at the target
    const float scale_one = 1.0f / one.sum, scale_two = 1.0f / two.sum;
    const auto gradients = [&](int64_t k) {
      const float d = as_float(first[k]) - as_float(second[k]) + shift;
      const float p = one.exponentials[k] * scale_one, r = two.exponentials[k] * scale_two;
      const float apart = weight * (p - r);
      return Gradients{half * p - even + weight * p * (d - kl_one) + apart,
                       half * r - even - weight * r * (d + kl_two) - apart};
    };
    const Gradients at = gradients(target);
#pragma omp simd
    for (int64_t k = 0; k < V; ++k) {
      const Gradients g = gradients(k);
      dbias[k] += g.one + g.two;
      first[k] = rounded<P>(g.one);
      second[k] = rounded<P>(g.two);
    }
    dbias[target] -= 2.0f * hit;
    first[target] = rounded<P>(at.one - hit);
    second[target] = rounded<P>(at.two - hit);
  }
  return {
      0.5 * (one.losses.smoothed + two.losses.smoothed) + 0.25 * with.r_drop * (kl_one + kl_two),
      0.5 * (one.losses.nll + two.losses.nll)};
}

// The losses of a block's logits (rows, V), which become gradients where dbias (V,) is to grow.
template <typename P>
Losses block_loss(const Tensor& logits, const float* bias, const int64_t* target,
                  const Settings& with, float* dbias) {
  const int64_t rows = logits.size(0), V = logits.size(1);
  const int64_t parts = (rows + kPartRows - 1) / kPartRows;
  std::vector<Losses> losses(parts);
  std::vector<float> gradients(dbias ? parts * V : 0);
  P* first = logits.mutable_data_ptr<P>();
  const int64_t step = with.r_drop > 0 ? 2 : 1;
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    const Tensor room = at::empty({step * V}, at::kFloat);  // aligned: no sum depends on its place
    float* z = room.mutable_data_ptr<float>();
    for (int64_t part = begin; part < end; ++part) {
      float* own = dbias ? gradients.data() + part * V : nullptr;
      for (int64_t r = part * kPartRows; r < std::min((part + 1) * kPartRows, rows); r += step) {
        P* row = first + r * V;
        const Losses found = step == 2 ? pair_loss(row, row + V, bias, V, target[r], with, z, own)
                                       : row_loss(row, bias, V, target[r], with, z, own);
        losses[part].smoothed += found.smoothed;
        losses[part].nll += found.nll;
      }
    }
  });
  Losses all;
  for (int64_t part = 0; part < parts; ++part) {
    all.smoothed += losses[part].smoothed;
    all.nll += losses[part].nll;
    if (!dbias) continue;
    const float* own = gradients.data() + part * V;
    for (int64_t k = 0; k < V; ++k) dbias[k] += own[k];
  }
  return all;
}

void check(const Tensor& logits, const Tensor& bias, const Tensor& target, const Tensor& dbias) {
  TORCH_CHECK(logits.dim() == 2 && logits.is_contiguous() &&
                  (logits.scalar_type() == at::kFloat || logits.scalar_type() == at::kBFloat16),
              "expected contiguous logits (N, V) of type Float or BFloat16, got ", logits.sizes(),
              " of type ", logits.scalar_type());
  for (const Tensor& vector : {bias, dbias})
    TORCH_CHECK(vector.scalar_type() == at::kFloat && vector.is_contiguous() &&
                    vector.sizes() == logits.sizes().slice(1),
                "expected a contiguous float bias and its gradient (", logits.size(1), "), got ",
                vector.sizes(), " of type ", vector.scalar_type());
  TORCH_CHECK(target.scalar_type() == at::kLong && target.is_contiguous() &&
                  target.sizes() == logits.sizes().slice(0, 1),
              "expected contiguous int64 targets (", logits.size(0), "), got ", target.sizes(),
              " of type ", target.scalar_type());
  const int64_t* id = target.const_data_ptr<int64_t>();
  for (int64_t r = 0; r < target.numel(); ++r)
    TORCH_CHECK(0 <= id[r] && id[r] < logits.size(1), "expected targets from 0 to ",
                logits.size(1) - 1, ", got ", id[r]);
}

void check_pairs(const Tensor& target) {
  const int64_t* id = target.const_data_ptr<int64_t>();
  bool pairs = target.numel() % 2 == 0;
  for (int64_t r = 0; pairs && r < target.numel(); r += 2) pairs = id[r] == id[r + 1];
  TORCH_CHECK(pairs, "expected rows in pairs of one target, as r_drop is above 0; got others");
}

// Losses (2,) of logits (N, V) without bias: smoothed and nll, sums over the rows. With `grad` the
// logits become the gradients of the first one divided by `divisor`, and dbias (V,) grows by
// theirs. With r_drop above 0 rows 2 i and 2 i + 1 are a pair of one target, and count once.
Tensor softmax_loss(const Tensor& logits, const Tensor& bias, const Tensor& target,
                    const Tensor& dbias, double smoothing, double r_drop, double divisor,
                    bool grad) {
  check(logits, bias, target, dbias);
  if (r_drop > 0) check_pairs(target);
  const Settings with{static_cast<float>(smoothing), static_cast<float>(r_drop),
                      static_cast<float>(divisor)};
  const float* b = bias.const_data_ptr<float>();
  const int64_t* ids = target.const_data_ptr<int64_t>();
  float* db = grad ? dbias.mutable_data_ptr<float>() : nullptr;
  const Losses all = logits.scalar_type() == at::kFloat
                         ? block_loss<float>(logits, b, ids, with, db)
                         : block_loss<BFloat16>(logits, b, ids, with, db);
  const Tensor losses = at::empty({2}, bias.options());
  losses[0] = all.smoothed;
  losses[1] = all.nll;
  return losses;
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "softmax_loss(Tensor(a!) logits, Tensor bias, Tensor target, Tensor(b!) bias_grad, float "
      "smoothing, float r_drop, float divisor, bool grad) -> Tensor");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) { library.impl("softmax_loss", &seq2seq::softmax_loss); }
