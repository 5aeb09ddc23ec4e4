// Batch norm's running statistics of all terms at once: read for some steps, and averaged with
// those of a batch. In plain torch each of these takes a dozen small operators a term, which a call
// of few rows would feel.

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace seq2seq {
namespace {

using at::Tensor;
using List = c10::List<Tensor>;

void check_table(const Tensor& t, int64_t places) {
  TORCH_CHECK(
      t.dim() == 2 && t.scalar_type() == at::kFloat && t.is_contiguous() && t.size(0) >= places,
      "expected contiguous float statistics of at least ", places, " steps, got ", t.sizes(),
      " of type ", t.scalar_type());
}

// Rows of the terms' tables (S, F) side by side, for `steps` steps from first_step on; steps after
// a term's last place read that.
Tensor read(const List& tables, int64_t first_step, int64_t steps, const c10::List<int64_t>& last) {
  TORCH_CHECK(tables.size() == last.size() && tables.size() > 0,
              "expected a last place for each of ", tables.size(), " terms, got ", last.size());
  int64_t width = 0;
  for (size_t term = 0; term < tables.size(); ++term) {
    TORCH_CHECK(first_step >= 0 && last.get(term) >= 0, "expected steps and places from 0 on, got ",
                first_step, " and ", last.get(term));
    check_table(tables.get(term), last.get(term) + 1);
    width += tables.get(term).size(1);
  }
  const Tensor found = at::empty({steps, width}, at::kFloat);
  float* to = found.mutable_data_ptr<float>();
  for (int64_t t = 0; t < steps; ++t)
    for (size_t term = 0; term < tables.size(); ++term) {
      const Tensor table = tables.get(term);
      const int64_t place = std::min(first_step + t, last.get(term)), F = table.size(1);
      to = std::copy_n(table.const_data_ptr<float>() + place * F, F, to);
    }
  return found;
}

std::tuple<Tensor, Tensor> running_statistics(const List& means, const List& vars,
                                              int64_t first_step, int64_t steps,
                                              const c10::List<int64_t>& last) {
  return {read(means, first_step, steps, last), read(vars, first_step, steps, last)};
}

// As torch.lerp.
float between(float start, float end, float weight) {
  return std::abs(weight) < 0.5f ? start + weight * (end - start)
                                 : end - (end - start) * (1.0f - weight);
}

// Averages statistics of n steps from first_step on, of so many rows (n,), into the running ones:
// means and biased variances (T, F), all terms side by side. A term's first `skipped` steps are
// left out. The first update of a step copies.
void average_statistics(const List& means, const List& vars, const List& updates,
                        const Tensor& steps_seen, const Tensor& mean, const Tensor& var,
                        const Tensor& rows, int64_t first_step, const c10::List<int64_t>& skipped,
                        double momentum) {
  const int64_t n = rows.numel();
  check_table(mean, n);
  check_table(var, n);
  TORCH_CHECK(rows.scalar_type() == at::kLong && rows.is_contiguous() &&
                  steps_seen.scalar_type() == at::kLong && steps_seen.numel() == 1,
              "expected rows and steps_seen of type Long, got ", rows.scalar_type(), " and ",
              steps_seen.scalar_type());
  const int64_t* row_counts = rows.const_data_ptr<int64_t>();
  int64_t column = 0, &seen = *steps_seen.data_ptr<int64_t>();
  for (size_t term = 0; term < means.size(); ++term) {
    const Tensor own_mean = means.get(term), own_var = vars.get(term), count = updates.get(term);
    const int64_t F = own_mean.size(1), start = skipped.get(term);
    check_table(own_mean, first_step + n);
    check_table(own_var, first_step + n);
    TORCH_CHECK(count.scalar_type() == at::kLong && count.is_contiguous() &&
                    count.numel() >= first_step + n && column + F <= mean.size(1),
                "expected counts of ", first_step + n, " steps and statistics of all terms");
    for (int64_t t = start; t < n; ++t) {
      const int64_t place = first_step + t;
      int64_t& updated = count.data_ptr<int64_t>()[place];
      const float weight = updated == 0 ? 1.0f : static_cast<float>(momentum);
      const float unbiased =
          static_cast<float>(row_counts[t]) / static_cast<float>(row_counts[t] - 1);
      const float* m = mean.const_data_ptr<float>() + t * mean.size(1) + column;
      const float* v = var.const_data_ptr<float>() + t * mean.size(1) + column;
      float* to_mean = own_mean.data_ptr<float>() + place * F;
      float* to_var = own_var.data_ptr<float>() + place * F;
      for (int64_t j = 0; j < F; ++j) {
        to_mean[j] = between(to_mean[j], m[j], weight);
        to_var[j] = between(to_var[j], v[j] * unbiased, weight);
      }
      ++updated;
    }
    column += F;
    if (n <= start) continue;
    seen = std::max(seen, first_step + n);
    for (const Tensor& changed : {own_mean, own_var, count, steps_seen})
      changed.unsafeGetTensorImpl()->bump_version();
  }
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "running_statistics(Tensor[] means, Tensor[] vars, int first_step, int steps, int[] last) -> "
      "(Tensor mean, Tensor var)");
  library.def(
      "average_statistics(Tensor(a!)[] means, Tensor(b!)[] vars, Tensor(c!)[] updates, Tensor(d!) "
      "steps_seen, Tensor mean, Tensor var, Tensor rows, int first_step, int[] skipped, float "
      "momentum) -> ()");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("running_statistics", &seq2seq::running_statistics);
  library.impl("average_statistics", &seq2seq::average_statistics);
}
