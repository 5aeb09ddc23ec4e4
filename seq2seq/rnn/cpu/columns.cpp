// Recurrences with batch norm: between two products one pass over features, shared by threads.

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <string_view>
#include <tuple>

#include "gru_columns.h"
#include "lstm_columns.h"
#include "one_step.h"
#include "recurrences.h"
#include "rnn_columns.h"

namespace seq2seq {
namespace {

template <typename F>
void for_blocks(int64_t rows, int64_t hidden, const F& each) {
  const int64_t blocks = (hidden + kWidth - 1) / kWidth;
  const int64_t grain = std::max<int64_t>(1, kThreadElements / (rows * kWidth));
  at::parallel_for(0, blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) each(b * kWidth, std::min(kWidth, hidden - b * kWidth));
  });
}

struct Settings {
  at::IntArrayRef batch_sizes;
  double eps;
  bool normalises_input;
};

template <typename Cell>
Forward forward(InputTerms& u, const Tensor& weight_hh, const OptionalTensor& h_0,
                const OptionalTensor& c_0, const Tensor& vectors, const Statistics& statistics,
                const Settings& settings, bool save) {
  using U = typename Cell::Input;
  using P = typename Cell::Products;
  const int64_t H = u.width() / Cell::kGates;
  const typename Cell::Layer layer(vectors.const_data_ptr<float>(), H, settings.eps,
                                   settings.normalises_input);
  return forward_steps<U, P>(u, weight_hh, H, h_0, c_0, settings.batch_sizes, Cell::kHasCell, save,
                             [&](const Step<U, P>& s) {
                               const ColumnStep<U, P> step = statistics.of(s);
                               for_blocks(s.rows, H, [&](int64_t first, int64_t width) {
                                 Cell::forward(layer, step, first, width);
                               });
                             });
}

// Calls `each` with the parts of a step whose rows read the same place of the statistics, and with
// that place. Neighbouring rows often do: the hypotheses of a sentence.
template <typename U, typename P, typename F>
void for_places(const Step<U, P>& s, int64_t width, int64_t hidden, const int64_t* places,
                const F& each) {
  const auto from = [](auto* first, int64_t elements) {
    return first == nullptr ? nullptr : first + elements;
  };
  for (int64_t row = 0, end; row < s.rows; row = end) {
    for (end = row + 1; end < s.rows && places[end] == places[row];) ++end;
    const int64_t gates = row * width, states = row * hidden;
    each(Step<U, P>{s.t, s.start + row, end - row, from(s.u, gates), from(s.z, gates),
                    from(s.h_before, states), from(s.c_before, states), from(s.h, states),
                    from(s.c, states), nullptr},
         places[row]);
  }
}

using Inferred = std::tuple<Tensor, Tensor, Tensor>;

template <typename Cell>
Inferred infer(InputTerms u, const Tensor& weight_hh, const OptionalTensor& h_0,
               const OptionalTensor& c_0, const Tensor& vectors, const Tensor& mean,
               const Tensor& var, const Tensor& places, const Settings& settings) {
  using U = typename Cell::Input;
  using P = typename Cell::Products;
  const int64_t H = u.width() / Cell::kGates;
  const typename Cell::Layer layer(vectors.const_data_ptr<float>(), H, settings.eps,
                                   settings.normalises_input);
  const Forward done = forward_steps<U, P>(
      u, weight_hh, H, h_0, c_0, settings.batch_sizes, Cell::kHasCell, false,
      [&](const Step<U, P>& s) {
        const int64_t* of_rows = places.const_data_ptr<int64_t>() + s.start;
        for_blocks(s.rows, H, [&](int64_t first, int64_t width) {
          for_places(s, Cell::kGates * H, H, of_rows, [&](const Step<U, P>& part, int64_t place) {
            Cell::forward(layer, with_statistics(part, false, mean, var, place), first, width);
          });
        });
      });
  return {done.output, done.h_n, done.c_n};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename Cell>
Gradients backward(const Incoming& d, const Kept& kept, const Tensor& vectors,
                   const Statistics& statistics, const Settings& settings, bool weight_grad) {
  using U = typename Cell::Input;
  using P = typename Cell::Products;
  const int64_t H = kept.weight_hh.size(1), B = settings.batch_sizes[0];
  const auto floats = kept.u.options().dtype(at::kFloat);
  const Tensor scratch = at::empty({B, Cell::kBackwardScratch * H}, floats);
  const Tensor sums = at::zeros({vectors.numel()}, floats);
  const typename Cell::Layer layer(vectors.const_data_ptr<float>(), H, settings.eps,
                                   settings.normalises_input);
  const typename Cell::template Vectors<float*> gradient_sums(sums.mutable_data_ptr<float>(), H);
  const Backward done = backward_steps<U, P>(
      d, kept, settings.batch_sizes, Cell::kHasCell, Cell::kSameTerms, weight_grad,
      [&](const Step<U, P>& s, const StepGradients<P>& gradients, U* du, P* dz) {
        const ColumnStep<U, P> step = statistics.of(s);
        const ColumnGradients<U, P> d_step{gradients, gradients.carried,
                                           scratch.mutable_data_ptr<float>(), du, dz};
        for_blocks(s.rows, H, [&](int64_t first, int64_t width) {
          Cell::backward(layer, step, first, width, d_step, gradient_sums);
        });
      });
  if (Cell::kHasCell) return {done.u, done.weight_hh, done.h_0, done.carried, sums};
  return {done.u, done.weight_hh, done.h_0.add(done.carried), at::empty({0, H}, floats), sums};
}

// h, c, and the statistics of one step.
using StepOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Settings of one step.
struct StepSettings {
  bool by_batch;  // normalised by its own statistics
  double eps;
  bool normalises_input;
};

template <typename Cell>
StepOutputs step_forward(const SummedInputs& in, const Tensor& vectors, const Tensor& mean,
                         const Tensor& var, const StepSettings& settings) {
  using U = typename Cell::Input;
  using P = typename Cell::Products;
  const int64_t H = in.u.size(1) / Cell::kGates;
  const typename Cell::Layer layer(vectors.const_data_ptr<float>(), H, settings.eps,
                                   settings.normalises_input);
  const NewState now(in.u.size(0), H, Cell::kHasCell);
  const Tensor nothing = at::empty({0}, at::kFloat);
  const ColumnStep<U, P> step{in.step<U, P>(now.h, now.c, nothing), settings.by_batch,
                              mean.data_ptr<float>(), var.data_ptr<float>()};
  for_blocks(step.rows, H,
             [&](int64_t first, int64_t width) { Cell::forward(layer, step, first, width); });
  return {now.h, now.c, mean, var};
}

template <typename Cell>
StepGradientTensors step_backward(const OptionalTensor& d_h, const OptionalTensor& d_carried,
                                  const SummedInputs& in, const Tensor& vectors, const Tensor& h,
                                  const Tensor& c, const Tensor& mean, const Tensor& var,
                                  const StepSettings& settings) {
  using U = typename Cell::Input;
  using P = typename Cell::Products;
  const int64_t H = in.u.size(1) / Cell::kGates, rows = in.u.size(0);
  const Tensor scratch = at::empty({rows, Cell::kBackwardScratch * H}, at::kFloat);
  const Tensor sums = at::zeros({vectors.numel()}, at::kFloat);
  const typename Cell::Layer layer(vectors.const_data_ptr<float>(), H, settings.eps,
                                   settings.normalises_input);
  const typename Cell::template Vectors<float*> gradient_sums(sums.mutable_data_ptr<float>(), H);
  const StepGradientBuffers d(d_h, d_carried, in, h, Cell::kSameTerms);
  const ColumnStep<U, P> step{in.step<U, P>(h, c, at::empty({0}, at::kFloat)), settings.by_batch,
                              mean.data_ptr<float>(), var.data_ptr<float>()};
  const StepGradients<P> incoming = d.of_step<P>();
  // with same terms du is of the products' type, too
  const Tensor& dz = Cell::kSameTerms ? d.u : d.z;
  const ColumnGradients<U, P> d_step{incoming, incoming.carried, scratch.mutable_data_ptr<float>(),
                                     d.u.data_ptr<U>(), dz.data_ptr<P>()};
  for_blocks(rows, H, [&](int64_t first, int64_t width) {
    Cell::backward(layer, step, first, width, d_step, gradient_sums);
  });
  return {d.u, d.z, d.carried, sums};
}

// -- operators ---

template <typename Cell>
struct Tag {
  using type = Cell;
};

template <typename U, typename P, typename F>
auto with_cell(std::string_view cell, const F& run) {
  if (cell == "lstm") return run(Tag<LstmColumns<U, P>>());
  if (cell == "lstm_plain_cell") return run(Tag<PlainCellColumns<U, P>>());
  if (cell == "gru") return run(Tag<GruColumns<U, P>>());
  if constexpr (std::is_same_v<U, P>) {  // the sum of both terms is normalised, never the input
                                         // term alone
    if (cell == "rnn_tanh") return run(Tag<TanhColumns<U, P>>());
    if (cell == "rnn_relu") return run(Tag<ReluColumns<U, P>>());
  }
  if (cell == "separate_rnn_tanh") return run(Tag<SeparateTanhColumns<U, P>>());
  if (cell == "separate_rnn_relu") return run(Tag<SeparateReluColumns<U, P>>());
  TORCH_CHECK(false, "cell=", cell,
              ": expected lstm, lstm_plain_cell, gru, rnn_tanh, rnn_relu, separate_rnn_tanh or "
              "separate_rnn_relu");
}

// Calls run(Tag<the cell with these types>).
template <typename F>
auto with_types(at::ScalarType input, const Tensor& weight_hh, std::string_view cell,
                const F& run) {
  // A float input term may be one that was normalised, before products of the weight's type.
  const at::ScalarType products = input == at::kFloat ? weight_hh.scalar_type() : input;
  if (input != at::kFloat) check_weight_type(input, weight_hh);
  if (products == at::kFloat) return with_cell<float, float>(cell, run);
  TORCH_CHECK(products == at::kBFloat16, "expected products in float or bfloat16, got ", products);
  if (input == at::kFloat) return with_cell<float, BFloat16>(cell, run);
  return with_cell<BFloat16, BFloat16>(cell, run);
}

void check_statistics(const Tensor& mean, const Tensor& var, int64_t steps, int64_t features) {
  for (const Tensor& statistics : {mean, var})
    TORCH_CHECK(statistics.sizes() == at::IntArrayRef({steps, features}) &&
                    statistics.scalar_type() == at::kFloat,
                "expected float statistics (", steps, ", ", features, "), got ", statistics.sizes(),
                " of type ", statistics.scalar_type());
}

Forward batch_norm_recurrence_of(InputTerms u, const Tensor& weight_hh, const OptionalTensor& h_0,
                                 const OptionalTensor& c_0, const Tensor& vectors,
                                 const Tensor& batch_sizes, const Statistics& statistics,
                                 int64_t sequences, std::string_view cell, double eps,
                                 bool normalises_input, bool save) {
  const at::IntArrayRef sizes = rows_of_steps(batch_sizes);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return with_types(u.type(), weight_hh, cell, [&](auto tag) {
    using Cell = typename decltype(tag)::type;
    const int64_t H = u.width() / Cell::kGates;
    const int64_t given = static_cast<int64_t>(sizes.size()) - statistics.own_mean.size(0);
    check_shapes(u, weight_hh, h_0, c_0, sizes, sequences, Cell::kGates);
    check_vectors(vectors, Cell::template Vectors<float*>::kCount * H);
    check_statistics(statistics.mean, statistics.var, given, Cell::kStatistics * H);
    return forward<Cell>(u, weight_hh, contiguous(h_0), contiguous(c_0), vectors.contiguous(),
                         statistics, {sizes, eps, normalises_input}, save);
  });
}

using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Outputs batch_norm_recurrence(const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0,
                              const OptionalTensor& c_0, const Tensor& vectors,
                              const Tensor& batch_sizes, const Tensor& mean, const Tensor& var,
                              int64_t sequences, int64_t batch_steps, std::string_view cell,
                              double eps, bool normalises_input, bool save) {
  const Tensor means = mean.clone(at::MemoryFormat::Contiguous),
               variances = var.clone(at::MemoryFormat::Contiguous);
  const Forward done =
      batch_norm_recurrence_of(InputTerms(u), weight_hh, h_0, c_0, vectors, batch_sizes,
                               Statistics::within(batch_steps, means, variances), sequences, cell,
                               eps, normalises_input, save);
  return {done.output, done.h_n, done.c_n, done.z, done.c, means, variances};
}

Inferred batch_norm_inference(const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0,
                              const OptionalTensor& c_0, const Tensor& vectors,
                              const Tensor& batch_sizes, const Tensor& mean, const Tensor& var,
                              const Tensor& places, int64_t sequences, std::string_view cell,
                              double eps, bool normalises_input) {
  const at::IntArrayRef sizes = rows_of_steps(batch_sizes);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return with_types(u.scalar_type(), weight_hh, cell, [&](auto tag) {
    using Cell = typename decltype(tag)::type;
    const int64_t H = u.size(1) / Cell::kGates;
    check_shapes(InputTerms(u), weight_hh, h_0, c_0, sizes, sequences, Cell::kGates);
    check_vectors(vectors, Cell::template Vectors<float*>::kCount * H);
    for (const Tensor& statistics : {mean, var})
      TORCH_CHECK(statistics.dim() == 2 && statistics.size(0) == mean.size(0) &&
                      statistics.size(1) == Cell::kStatistics * H &&
                      statistics.scalar_type() == at::kFloat,
                  "expected float statistics (S, ", Cell::kStatistics * H, "), got ",
                  statistics.sizes(), " of type ", statistics.scalar_type());
    TORCH_CHECK(places.sizes() == at::IntArrayRef({u.size(0)}) && places.scalar_type() == at::kLong,
                "expected places (", u.size(0), ",) of type Long, got ", places.sizes(),
                " of type ", places.scalar_type());
    const Tensor rows = places.contiguous();
    for (const int64_t place : at::IntArrayRef(rows.const_data_ptr<int64_t>(), rows.numel()))
      TORCH_CHECK(0 <= place && place < mean.size(0), "expected places of ", mean.size(0),
                  " steps, got ", place);
    return infer<Cell>(InputTerms(u), weight_hh, contiguous(h_0), contiguous(c_0),
                       vectors.contiguous(), mean.contiguous(), var.contiguous(), rows,
                       {sizes, eps, normalises_input});
  });
}

StepOutputs batch_norm_step(const Tensor& u, const OptionalTensor& z, const OptionalTensor& h,
                            const OptionalTensor& c, const Tensor& vectors, const Tensor& mean,
                            const Tensor& var, bool by_batch, std::string_view cell, double eps,
                            bool normalises_input) {
  const SummedInputs in(u, z, h, c);
  return with_types(u.scalar_type(), z.value_or(u), cell, [&](auto tag) {
    using Cell = typename decltype(tag)::type;
    in.check(Cell::kGates);
    const int64_t H = u.size(1) / Cell::kGates;
    check_vectors(vectors, Cell::template Vectors<float*>::kCount * H);
    check_statistics(mean, var, 1, Cell::kStatistics * H);
    return step_forward<Cell>(in, vectors.contiguous(), mean.clone(at::MemoryFormat::Contiguous),
                              var.clone(at::MemoryFormat::Contiguous),
                              {by_batch, eps, normalises_input});
  });
}

StepGradientTensors batch_norm_step_backward(
    const OptionalTensor& d_h, const OptionalTensor& d_carried, const Tensor& u,
    const OptionalTensor& z, const OptionalTensor& h_before, const OptionalTensor& c_before,
    const Tensor& vectors, const Tensor& h, const Tensor& c, const Tensor& mean, const Tensor& var,
    bool by_batch, std::string_view cell, double eps, bool normalises_input) {
  const SummedInputs in(u, z, h_before, c_before);
  return with_types(u.scalar_type(), z.value_or(u), cell, [&](auto tag) {
    using Cell = typename decltype(tag)::type;
    in.check(Cell::kGates);
    check_statistics(mean, var, 1, Cell::kStatistics * u.size(1) / Cell::kGates);
    return step_backward<Cell>(d_h, d_carried, in, vectors.contiguous(), h, c, mean, var,
                               {by_batch, eps, normalises_input});
  });
}

Gradients batch_norm_backward_of(const OptionalTensor& d_output, const OptionalTensor& d_h_n,
                                 const OptionalTensor& d_c_n, const Kept& kept,
                                 const Tensor& vectors, const Tensor& batch_sizes,
                                 const Statistics& statistics, int64_t sequences,
                                 std::string_view cell, double eps, bool normalises_input,
                                 bool weight_grad) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const Incoming incoming(d_output, d_h_n, has_cell(cell) ? d_c_n : std::nullopt, kept, sequences);
  return with_types(kept.u.scalar_type(), kept.weight_hh, cell, [&](auto tag) {
    using Cell = typename decltype(tag)::type;
    return backward<Cell>(incoming, kept, vectors.contiguous(), statistics,
                          {rows_of_steps(batch_sizes), eps, normalises_input}, weight_grad);
  });
}

Gradients batch_norm_recurrence_backward(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0, const OptionalTensor& c_0,
    const Tensor& vectors, const Tensor& batch_sizes, const Tensor& output, const Tensor& z,
    const Tensor& c, const Tensor& mean, const Tensor& var, int64_t sequences, int64_t batch_steps,
    std::string_view cell, double eps, bool normalises_input, bool weight_grad) {
  const Kept kept(u, weight_hh, h_0, c_0, output, z, c);
  return batch_norm_backward_of(d_output, d_h_n, d_c_n, kept, vectors, batch_sizes,
                                Statistics::within(batch_steps, mean, var), sequences, cell, eps,
                                normalises_input, weight_grad);
}

// Of each recurrence output, h_n, c_n, z, c, mean and var (batch_steps, F) of the steps that are
// normalised by their own, u (N, width) with `save`, and the vectors. Given are the statistics of
// the steps after those.
std::vector<Tensor> batch_norm_recurrences(const Tensors& tensors, const Tensor& batch_sizes,
                                           int64_t sequences, int64_t width, int64_t batch_steps,
                                           std::string_view cell, double eps, bool normalises_input,
                                           bool save) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return forward_of_each(tensors, cell, width, 2, save,
                         [&](const OptionalTensor* t, const OptionalTensor* running,
                             const InputTerms& u, const Tensor& vectors) -> Outputs {
                           const Statistics statistics = Statistics::with_room(
                               batch_steps, running[0].value(), running[1].value());
                           const Forward done = batch_norm_recurrence_of(
                               u, t[kWeightHh].value(), t[kH0], t[kC0], vectors, batch_sizes,
                               statistics, sequences, cell, eps, normalises_input, save);
                           return {done.output,         done.h_n,          done.c_n, done.z, done.c,
                                   statistics.own_mean, statistics.own_var};
                         });
}

std::vector<Tensor> batch_norm_recurrences_backward(const Tensors& incoming, const Tensors& tensors,
                                                    const std::vector<Tensor>& results,
                                                    const Tensor& batch_sizes, int64_t sequences,
                                                    int64_t batch_steps, std::string_view cell,
                                                    double eps, bool normalises_input,
                                                    const c10::List<bool>& needed) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return backward_of_each(
      incoming, tensors, results, cell, 2, needed,
      [&](const OptionalTensor* d, const OptionalTensor* t, const OptionalTensor* running,
          const Tensor* r, bool weight_grad) {
        // r: output, z, c, mean, var, u, vectors
        const Statistics statistics{r[3], r[4], running[0]->contiguous(), running[1]->contiguous()};
        const Kept kept(r[5], t[kWeightHh].value(), t[kH0], t[kC0], r[0], r[1], r[2]);
        return batch_norm_backward_of(d[0], d[1], d[2], kept, r[6], batch_sizes, statistics,
                                      sequences, cell, eps, normalises_input, weight_grad);
      });
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "batch_norm_recurrence(Tensor u, Tensor weight_hh, Tensor? h_0, Tensor? c_0, Tensor vectors, "
      "Tensor batch_sizes, Tensor mean, Tensor var, SymInt sequences, SymInt batch_steps, str "
      "cell, float eps, bool normalises_input, bool save) -> (Tensor output, Tensor h_n, Tensor "
      "c_n, Tensor z, Tensor c, Tensor mean, "
      "Tensor var)");
  library.def(
      "batch_norm_recurrence_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor u, "
      "Tensor weight_hh, "
      "Tensor? h_0, Tensor? c_0, Tensor vectors, Tensor batch_sizes, Tensor output, Tensor z, "
      "Tensor "
      "c, Tensor mean, Tensor var, SymInt sequences, SymInt batch_steps, str cell, float eps, bool "
      "normalises_input, bool weight_grad) -> (Tensor u, Tensor weight_hh, Tensor h_0, Tensor c_0, "
      "Tensor vectors)");
  library.def(
      "batch_norm_recurrences(Tensor?[] tensors, Tensor batch_sizes, int sequences, int width, int "
      "batch_steps, str cell, float eps, bool normalises_input, bool save) -> Tensor[]");
  library.def(
      "batch_norm_recurrences_backward(Tensor?[] incoming, Tensor?[] tensors, Tensor[] results, "
      "Tensor batch_sizes, int sequences, int batch_steps, str cell, float eps, bool "
      "normalises_input, bool[] needed) -> Tensor[]");
  library.def(
      "batch_norm_step(Tensor u, Tensor? z, Tensor? h, Tensor? c, Tensor vectors, Tensor mean, "
      "Tensor var, bool by_batch, str cell, float eps, bool normalises_input) -> (Tensor h, Tensor "
      "c, Tensor mean, Tensor var)");
  library.def(
      "batch_norm_step_backward(Tensor? d_h, Tensor? d_carried, Tensor u, Tensor? z, Tensor? "
      "h_before, Tensor? c_before, Tensor vectors, Tensor h, Tensor c, Tensor mean, Tensor var, "
      "bool by_batch, str cell, float eps, bool normalises_input) -> (Tensor u, Tensor z, Tensor "
      "carried, Tensor vectors)");
  library.def(
      "batch_norm_inference(Tensor u, Tensor weight_hh, Tensor? h_0, Tensor? c_0, Tensor vectors, "
      "Tensor batch_sizes, Tensor mean, Tensor var, Tensor places, SymInt sequences, str cell, "
      "float eps, bool normalises_input) -> (Tensor output, Tensor h_n, Tensor c_n)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("batch_norm_inference", &seq2seq::batch_norm_inference);
  library.impl("batch_norm_recurrences", &seq2seq::batch_norm_recurrences);
  library.impl("batch_norm_recurrences_backward", &seq2seq::batch_norm_recurrences_backward);
  library.impl("batch_norm_step", &seq2seq::batch_norm_step);
  library.impl("batch_norm_step_backward", &seq2seq::batch_norm_step_backward);
  library.impl("batch_norm_recurrence", &seq2seq::batch_norm_recurrence);
  library.impl("batch_norm_recurrence_backward", &seq2seq::batch_norm_recurrence_backward);
}
