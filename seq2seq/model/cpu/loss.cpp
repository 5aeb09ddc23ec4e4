// Cross-entropy of a linear output layer and all its gradients; loss.py has the equations.
//
// N rows, A features, V classes. P is the type of the products, float or bfloat16; everything else
// is float.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "elementwise.h"
#include "products.h"

namespace seq2seq {
namespace {

using at::Tensor;

constexpr int64_t kBlockRows = 2048;  // rows whose logits exist at a time
constexpr int64_t kPartRows = 64;     // rows whose gradients of the bias are summed together

struct Losses {
  double smoothed = 0, nll = 0;
};

struct Target {
  float smoothing, divisor;  // e of the equations, and what the gradients are divided by
};

// One row of logits without bias, in place: (p - q) / divisor. `z` has room for V. Adds that to
// dbias too, unless it is null: then the logits stay as they are.
template <typename P>
Losses row_loss(P* logits, const float* bias, int64_t V, int64_t target, const Target& q, float* z,
                float* dbias) {
  float most = -std::numeric_limits<float>::infinity(), sum = 0, exponentials = 0;
#pragma omp simd reduction(max : most) reduction(+ : sum)
  for (int64_t k = 0; k < V; ++k) {
    z[k] = as_float(logits[k]) + bias[k];
    most = z[k] > most ? z[k] : most;
    sum += z[k];
  }
  const float at_target = z[target];
#pragma omp simd reduction(+ : exponentials)
  for (int64_t k = 0; k < V; ++k) {
    const ScaledExp e = scaled_exp(clamp(z[k] - most, 87.0f));
    z[k] = e.power + e.power * e.rest;
    exponentials += z[k];
  }
  const double normaliser = static_cast<double>(most) + std::log(static_cast<double>(exponentials));
  const double nll = normaliser - at_target, mean = sum / static_cast<double>(V);
  if (dbias) {
    const float scale = 1.0f / (exponentials * q.divisor);
    const float even = q.smoothing / (static_cast<float>(V) * q.divisor);
    z[target] -= (1.0f - q.smoothing) * exponentials;
#pragma omp simd
    for (int64_t k = 0; k < V; ++k) {
      const float gradient = z[k] * scale - even;
      dbias[k] += gradient;
      logits[k] = rounded<P>(gradient);
    }
  }
  return {(1 - q.smoothing) * nll + q.smoothing * (normaliser - mean), nll};
}

// The losses of a block's logits (rows, V), which become (p - q) / divisor where dbias (V,) is to
// grow.
template <typename P>
Losses block_loss(const Tensor& logits, const float* bias, const int64_t* target, const Target& q,
                  float* dbias) {
  const int64_t rows = logits.size(0), V = logits.size(1);
  const int64_t parts = (rows + kPartRows - 1) / kPartRows;
  std::vector<Losses> losses(parts);
  std::vector<float> gradients(dbias ? parts * V : 0);
  P* first = logits.mutable_data_ptr<P>();
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    const Tensor room = at::empty({V}, at::kFloat);  // aligned: no sum depends on its place
    float* z = room.mutable_data_ptr<float>();
    for (int64_t part = begin; part < end; ++part) {
      float* own = dbias ? gradients.data() + part * V : nullptr;
      for (int64_t r = part * kPartRows; r < std::min((part + 1) * kPartRows, rows); ++r) {
        const Losses row = row_loss(first + r * V, bias, V, target[r], q, z, own);
        losses[part].smoothed += row.smoothed;
        losses[part].nll += row.nll;
      }
    }
  });
  Losses all;
  for (int64_t part = 0; part < parts; ++part) {
    all.smoothed += losses[part].smoothed;
    all.nll += losses[part].nll;
    const float* own = gradients.data() + part * V;
    for (int64_t k = 0; dbias && k < V; ++k) dbias[k] += own[k];
  }
  return all;
}

void check(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& target) {
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1) &&
                  x.scalar_type() == weight.scalar_type(),
              "expected x (N, A) and weight (V, A) of one type, got ", x.sizes(), " of type ",
              x.scalar_type(), " and ", weight.sizes(), " of type ", weight.scalar_type());
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16,
              "expected x of type Float or BFloat16, got ", x.scalar_type());
  TORCH_CHECK(bias.scalar_type() == at::kFloat && bias.numel() == weight.size(0),
              "expected a float bias (", weight.size(0), "), got ", bias.sizes(), " of type ",
              bias.scalar_type());
  TORCH_CHECK(target.scalar_type() == at::kLong && target.numel() == x.size(0),
              "expected int64 targets (", x.size(0), "), got ", target.sizes(), " of type ",
              target.scalar_type());
  const int64_t* id = target.const_data_ptr<int64_t>();
  for (int64_t r = 0; r < target.numel(); ++r)
    TORCH_CHECK(0 <= id[r] && id[r] < weight.size(0), "expected targets from 0 to ",
                weight.size(0) - 1, ", got ", id[r]);
}

// dweight (V, A) += d^T x; the first block's product makes it.
void add_weight_gradient(Tensor& dweight, const Tensor& d, const Tensor& x) {
  if (!dweight.defined())
    dweight = weight_gradient(d, x).to(at::kFloat);
  else
    dweight.add_(weight_gradient(d, x));
}

// Losses (2,): smoothed and nll, sums over the rows; then the gradients of the first one divided by
// `divisor`, all float, which are empty without `grad`.
std::tuple<Tensor, Tensor, Tensor, Tensor> linear_cross_entropy(
    const Tensor& x_given, const Tensor& weight, const Tensor& bias_given,
    const Tensor& target_given, double smoothing, double divisor, bool onednn, bool grad) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const Tensor x = x_given.contiguous(), bias = bias_given.contiguous(),
               target = target_given.contiguous();
  check(x, weight, bias, target);
  const int64_t N = x.size(0);
  const bool large = onednn_for_large(onednn), narrow = x.scalar_type() == at::kBFloat16;
  const auto floats = x.options().dtype(at::kFloat);
  const Tensor dx = at::empty({grad ? N : 0, x.size(1)}, floats);
  Tensor dweight;
  const Tensor dbias = at::zeros({grad ? bias.size(0) : 0}, floats);
  float* bias_gradient = grad ? dbias.mutable_data_ptr<float>() : nullptr;
  const Target q{static_cast<float>(smoothing), static_cast<float>(divisor)};
  Losses all;
  for (int64_t from = 0; from < N; from += kBlockRows) {
    const int64_t rows = std::min(kBlockRows, N - from);
    const Tensor part = x.narrow(0, from, rows);
    const Tensor d = product(part, weight, large).contiguous();
    const int64_t* ids = target.const_data_ptr<int64_t>() + from;
    const float* b = bias.const_data_ptr<float>();
    const Losses block = narrow ? block_loss<BFloat16>(d, b, ids, q, bias_gradient)
                                : block_loss<float>(d, b, ids, q, bias_gradient);
    all.smoothed += block.smoothed;
    all.nll += block.nll;
    if (!grad) continue;
    dx.narrow(0, from, rows).copy_(product(d, weight.t(), large));
    add_weight_gradient(dweight, d, part);
  }
  if (!dweight.defined()) dweight = at::zeros({grad ? weight.size(0) : 0, weight.size(1)}, floats);
  const Tensor losses = at::empty({2}, floats);
  losses[0] = all.smoothed;
  losses[1] = all.nll;
  return {losses, dx, dweight, dbias};
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "linear_cross_entropy(Tensor x, Tensor weight, Tensor bias, Tensor target, float smoothing, "
      "float divisor, bool onednn, bool grad) -> (Tensor losses, Tensor x_grad, Tensor "
      "weight_grad, Tensor bias_grad)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("linear_cross_entropy", &seq2seq::linear_cross_entropy);
}
