// Recurrences with no norm, layer norm or rms norm: between two products one pass over the
// active rows, shared by threads.

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <string_view>
#include <tuple>

#include "gru_rows.h"
#include "lstm_rows.h"
#include "one_step.h"
#include "recurrences.h"
#include "rnn_rows.h"

namespace seq2seq {
namespace {

template <typename F>
void for_rows(int64_t rows, int64_t hidden, const F& each) {
  const int64_t grain = std::max<int64_t>(1, kThreadElements / hidden);
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    const int64_t thread = at::get_thread_num();
    for (int64_t r = begin; r < end; ++r) each(r, thread);
  });
}

// Zeros for what a first step lacks.
template <typename P>
struct Zeros {
  Tensor z, state;

  Zeros(int64_t width, int64_t H)
      : z(at::zeros({width}, c10::CppTypeToScalarType<P>::value)),
        state(at::zeros({H}, at::kFloat)) {}

  Row<P> row(const Step<P, P>& s, int64_t r, int64_t H) const {
    const int64_t width = z.size(0);
    const float* none = state.const_data_ptr<float>();
    return {s.u + r * width, s.z ? s.z + r * width : z.const_data_ptr<P>(), s.z != nullptr,
            s.h_before ? s.h_before + r * H : none, s.c_before ? s.c_before + r * H : none};
  }
};

// Settings of all cells.
struct Settings {
  at::IntArrayRef batch_sizes;
  double eps;
};

// The rows of a step, forward. Their moments are kept where a backward pass may follow.
template <typename Cell, typename P>
struct ForwardRows {
  int64_t H, width;
  double eps;
  typename Cell::template Vectors<const float*> v;
  Zeros<P> zeros;
  Tensor scratch, moments;

  ForwardRows(int64_t rows, int64_t summed, const Tensor& vectors, double epsilon, bool save)
      : H(summed / Cell::kGates),
        width(summed),
        eps(epsilon),
        v(vectors.const_data_ptr<float>(), H),
        zeros(width, H),
        scratch(at::empty({at::get_num_threads(), Cell::kForwardScratch * H}, at::kFloat)),
        moments(at::empty({save ? rows : 0, 2 * Cell::kMoments}, at::kFloat)) {}

  C10_NOINLINE void operator()(const Step<P, P>& s) const {
    for_rows(s.rows, H, [&](int64_t r, int64_t thread) {
      const Row<P> row = zeros.row(s, r, H);
      Moments own[Cell::kMoments];
      Cell::forward(v, row, H, eps, scratch.mutable_data_ptr<float>() + thread * scratch.size(1),
                    own, s.c ? s.c + r * H : nullptr, s.h + r * H,
                    s.kept ? s.kept + r * width : nullptr);
      if (moments.size(0))
        std::copy_n(own, Cell::kMoments,
                    reinterpret_cast<Moments*>(moments.mutable_data_ptr<float>()) +
                        (s.start + r) * Cell::kMoments);
      if (s.kept && !Cell::kKeepsGates) std::copy_n(row.z, width, s.kept + r * width);
    });
  }
};

// The rows of a step, backward.
template <typename Cell, typename P>
struct BackwardRows {
  int64_t H, width;
  typename Cell::template Vectors<const float*> v;
  Zeros<P> zeros;
  const Moments* moments;
  Tensor scratch, sums;  // of the gradients of the vectors: each thread's own

  BackwardRows(const Tensor& u, const Tensor& vectors, const Tensor& kept_moments)
      : H(u.size(1) / Cell::kGates),
        width(u.size(1)),
        v(vectors.const_data_ptr<float>(), H),
        zeros(width, H),
        moments(reinterpret_cast<const Moments*>(kept_moments.const_data_ptr<float>())),
        scratch(at::empty({at::get_num_threads(), (1 + Cell::kBackwardScratch) * H}, at::kFloat)),
        sums(at::zeros({at::get_num_threads(), Cell::kVectors * H}, at::kFloat)) {}

  C10_NOINLINE void operator()(const Step<P, P>& s, const StepGradients<P>& gradients, P* du,
                               P* dz) const {
    for_rows(s.rows, H, [&](int64_t r, int64_t thread) {
      float* dh = scratch.mutable_data_ptr<float>() + thread * scratch.size(1);
      float* carried = gradients.carried + r * H;
      gradients.of_h(r, H, 0, H, dh);
      if constexpr (!Cell::kHasCell) add(carried, H, dh);
      Cell::backward(v, zeros.row(s, r, H), H, moments + (s.start + r) * Cell::kMoments,
                     s.c ? s.c + r * H : nullptr, s.h + r * H, s.kept + r * width, dh, carried,
                     dh + H, du + r * width, dz + r * width,
                     {sums.mutable_data_ptr<float>() + thread * sums.size(1), H});
    });
  }
};

using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename Cell, typename P>
Outputs forward(InputTerms& u, const Tensor& weight_hh, const OptionalTensor& h_0,
                const OptionalTensor& c_0, const Tensor& vectors, const Settings& settings,
                bool save) {
  const ForwardRows<Cell, P> each(u.rows(), u.width(), vectors, settings.eps, save);
  const Forward done = forward_steps<P, P>(u, weight_hh, each.H, h_0, c_0, settings.batch_sizes,
                                           Cell::kHasCell, save, each);
  return {done.output, done.h_n, done.c_n, done.z, done.c, each.moments};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename Cell, typename P>
Gradients backward(const Incoming& d, const Kept& kept, const Tensor& vectors,
                   const Tensor& moments, const Settings& settings, bool weight_grad) {
  const BackwardRows<Cell, P> each(kept.u, vectors, moments);
  const Backward done = backward_steps<P, P>(d, kept, settings.batch_sizes, Cell::kHasCell,
                                             Cell::kSameTerms, weight_grad, each);
  const Tensor sums = each.sums.sum(0);
  if (Cell::kHasCell) return {done.u, done.weight_hh, done.h_0, done.carried, sums};
  return {done.u, done.weight_hh, done.h_0.add(done.carried), at::empty({0, each.H}, at::kFloat),
          sums};
}

void check_kept(const Tensor& h, const Tensor& c, const Tensor& moments, int64_t rows,
                int64_t count) {
  TORCH_CHECK(h.is_contiguous() && c.is_contiguous() && h.size(0) == rows &&
                  moments.sizes() == at::IntArrayRef({rows, 2 * count}),
              "expected what cell_step returned with save=true for ", rows, " rows");
}

// h, c, what the cell keeps of its gates, and the moments, of one step.
using StepOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <typename Cell, typename P>
StepOutputs step_forward(const SummedInputs& in, const Tensor& vectors, double eps, bool save) {
  const int64_t rows = in.u.size(0);
  const ForwardRows<Cell, P> each(rows, in.u.size(1), vectors, eps, save);
  const NewState now(rows, each.H, Cell::kHasCell);
  const Tensor gates =
      at::empty({save && Cell::kKeepsGates ? rows : 0, each.width}, in.u.options());
  each(in.step<P, P>(now.h, now.c, gates));
  return {now.h, now.c, gates, each.moments};
}

template <typename Cell, typename P>
StepGradientTensors step_backward(const OptionalTensor& d_h, const OptionalTensor& d_carried,
                                  const SummedInputs& in, const Tensor& vectors, const Tensor& h,
                                  const Tensor& c, const Tensor& gates, const Tensor& moments) {
  const BackwardRows<Cell, P> each(in.u, vectors, moments);
  const StepGradientBuffers d(d_h, d_carried, in, h, Cell::kSameTerms);
  // A cell that keeps no gates reads none: u stands for them.
  each(in.step<P, P>(h, c, gates.size(0) ? gates : in.u), d.of_step<P>(), d.u.data_ptr<P>(),
       Cell::kSameTerms ? d.u.data_ptr<P>() : d.z.data_ptr<P>());
  return {d.u, d.z, d.carried, each.sums.sum(0)};
}

// -- operators ---

template <typename Cell>
struct Tag {
  using type = Cell;
};

// Calls run(Tag<the cell with this norm and type>, P()).
template <typename P, template <Norm, typename> typename Cell, typename F>
auto with_norm(std::string_view norm, const F& run) {
  if (norm == "none") return run(Tag<Cell<Norm::none, P>>(), P());
  if (norm == "layer") return run(Tag<Cell<Norm::layer, P>>(), P());
  TORCH_CHECK(norm == "rms", "norm=", norm, ": expected none, layer or rms");
  return run(Tag<Cell<Norm::rms, P>>(), P());
}

template <typename P, typename F>
auto with_cell(std::string_view cell, std::string_view norm, const F& run) {
  if (cell == "lstm") return with_norm<P, LstmRow>(norm, run);
  if (cell == "lstm_plain_cell") return with_norm<P, PlainCellRow>(norm, run);
  if (cell == "gru") return with_norm<P, GruRow>(norm, run);
  if (cell == "rnn_tanh") return with_norm<P, TanhRow>(norm, run);
  TORCH_CHECK(cell == "rnn_relu", "cell=", cell,
              ": expected lstm, lstm_plain_cell, gru, rnn_tanh or rnn_relu");
  return with_norm<P, ReluRow>(norm, run);
}

template <typename F>
auto with_types(at::ScalarType u, const Tensor& weight_hh, std::string_view cell,
                std::string_view norm, const F& run) {
  check_weight_type(u, weight_hh);
  if (u == at::kFloat) return with_cell<float>(cell, norm, run);
  TORCH_CHECK(u == at::kBFloat16, "expected products in float or bfloat16, got ", u);
  return with_cell<BFloat16>(cell, norm, run);
}

Outputs recurrence_of(InputTerms u, const Tensor& weight_hh, const OptionalTensor& h_0,
                      const OptionalTensor& c_0, const Tensor& vectors, const Tensor& batch_sizes,
                      int64_t sequences, std::string_view cell, std::string_view norm, double eps,
                      bool save) {
  const at::IntArrayRef rows = rows_of_steps(batch_sizes);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return with_types(u.type(), weight_hh, cell, norm, [&](auto tag, auto type) {
    using Cell = typename decltype(tag)::type;
    check_shapes(u, weight_hh, h_0, c_0, rows, sequences, Cell::kGates);
    check_vectors(vectors, Cell::kVectors * u.width() / Cell::kGates);
    return forward<Cell, decltype(type)>(u, weight_hh, contiguous(h_0), contiguous(c_0),
                                         vectors.contiguous(), {rows, eps}, save);
  });
}

Outputs recurrence(const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0,
                   const OptionalTensor& c_0, const Tensor& vectors, const Tensor& batch_sizes,
                   int64_t sequences, std::string_view cell, std::string_view norm, double eps,
                   bool save) {
  return recurrence_of(InputTerms(u), weight_hh, h_0, c_0, vectors, batch_sizes, sequences, cell,
                       norm, eps, save);
}

StepOutputs cell_step(const Tensor& u, const OptionalTensor& z, const OptionalTensor& h,
                      const OptionalTensor& c, const Tensor& vectors, std::string_view cell,
                      std::string_view norm, double eps, bool save) {
  const SummedInputs in(u, z, h, c);
  return with_types(u.scalar_type(), z.value_or(u), cell, norm, [&](auto tag, auto type) {
    using Cell = typename decltype(tag)::type;
    in.check(Cell::kGates);
    check_vectors(vectors, Cell::kVectors * u.size(1) / Cell::kGates);
    return step_forward<Cell, decltype(type)>(in, vectors.contiguous(), eps, save);
  });
}

StepGradientTensors cell_step_backward(const OptionalTensor& d_h, const OptionalTensor& d_carried,
                                       const Tensor& u, const OptionalTensor& z,
                                       const OptionalTensor& h_before,
                                       const OptionalTensor& c_before, const Tensor& vectors,
                                       const Tensor& h, const Tensor& c, const Tensor& gates,
                                       const Tensor& moments, std::string_view cell,
                                       std::string_view norm) {
  const SummedInputs in(u, z, h_before, c_before);
  return with_types(u.scalar_type(), z.value_or(u), cell, norm, [&](auto tag, auto type) {
    using Cell = typename decltype(tag)::type;
    in.check(Cell::kGates);
    check_kept(h, c, moments, u.size(0), Cell::kMoments);
    return step_backward<Cell, decltype(type)>(d_h, d_carried, in, vectors.contiguous(), h, c,
                                               gates, moments);
  });
}

Gradients recurrence_backward(const OptionalTensor& d_output, const OptionalTensor& d_h_n,
                              const OptionalTensor& d_c_n, const Tensor& u, const Tensor& weight_hh,
                              const OptionalTensor& h_0, const OptionalTensor& c_0,
                              const Tensor& vectors, const Tensor& batch_sizes,
                              const Tensor& output, const Tensor& z, const Tensor& c,
                              const Tensor& moments, int64_t sequences, std::string_view cell,
                              std::string_view norm, double eps, bool weight_grad) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const Kept kept(u, weight_hh, h_0, c_0, output, z, c);
  const Incoming incoming(d_output, d_h_n, has_cell(cell) ? d_c_n : std::nullopt, kept, sequences);
  return with_types(u.scalar_type(), weight_hh, cell, norm, [&](auto tag, auto type) {
    using Cell = typename decltype(tag)::type;
    return backward<Cell, decltype(type)>(incoming, kept, vectors.contiguous(), moments,
                                          {rows_of_steps(batch_sizes), eps}, weight_grad);
  });
}

// Of each recurrence what `recurrence` returns, u (N, width) with `save`, and the vectors.
std::vector<Tensor> recurrences(const Tensors& tensors, const Tensor& batch_sizes,
                                int64_t sequences, int64_t width, std::string_view cell,
                                std::string_view norm, double eps, bool save) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return forward_of_each(tensors, cell, width, 0, save,
                         [&](const OptionalTensor* t, const OptionalTensor*, const InputTerms& u,
                             const Tensor& vectors) {
                           return recurrence_of(u, t[kWeightHh].value(), t[kH0], t[kC0], vectors,
                                                batch_sizes, sequences, cell, norm, eps, save);
                         });
}

std::vector<Tensor> recurrences_backward(const Tensors& incoming, const Tensors& tensors,
                                         const std::vector<Tensor>& results,
                                         const Tensor& batch_sizes, int64_t sequences,
                                         std::string_view cell, std::string_view norm, double eps,
                                         const c10::List<bool>& needed) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return backward_of_each(incoming, tensors, results, cell, 0, needed,
                          [&](const OptionalTensor* d, const OptionalTensor* t,
                              const OptionalTensor*, const Tensor* r, bool weight_grad) {
                            // r: output, z, c, moments, u, vectors
                            return recurrence_backward(d[0], d[1], d[2], r[4], t[kWeightHh].value(),
                                                       t[kH0], t[kC0], r[5], batch_sizes, r[0],
                                                       r[1], r[2], r[3], sequences, cell, norm, eps,
                                                       weight_grad);
                          });
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "recurrence(Tensor u, Tensor weight_hh, Tensor? h_0, Tensor? c_0, Tensor vectors, Tensor "
      "batch_sizes, SymInt sequences, str cell, str norm, float eps, bool save) -> (Tensor output, "
      "Tensor h_n, Tensor c_n, Tensor z, Tensor c, Tensor moments)");
  library.def(
      "recurrence_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor u, Tensor "
      "weight_hh, Tensor? h_0, "
      "Tensor? c_0, Tensor vectors, Tensor batch_sizes, Tensor output, Tensor z, Tensor c, "
      "Tensor moments, SymInt sequences, str cell, str norm, float eps, bool weight_grad) -> "
      "(Tensor u, Tensor weight_hh, Tensor h_0, Tensor c_0, Tensor vectors)");
  library.def(
      "recurrences(Tensor?[] tensors, Tensor batch_sizes, int sequences, int width, str cell, str "
      "norm, float eps, bool save) -> Tensor[]");
  library.def(
      "recurrences_backward(Tensor?[] incoming, Tensor?[] tensors, Tensor[] results, Tensor "
      "batch_sizes, int sequences, str cell, str norm, float eps, bool[] needed) -> Tensor[]");
  library.def(
      "cell_step(Tensor u, Tensor? z, Tensor? h, Tensor? c, Tensor vectors, str cell, str norm, "
      "float eps, bool save) -> (Tensor h, Tensor c, Tensor gates, Tensor moments)");
  library.def(
      "cell_step_backward(Tensor? d_h, Tensor? d_carried, Tensor u, Tensor? z, Tensor? h_before, "
      "Tensor? c_before, Tensor vectors, Tensor h, Tensor c, Tensor gates, Tensor moments, str "
      "cell, str norm) -> (Tensor u, Tensor z, Tensor carried, Tensor vectors)");
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("recurrence", &seq2seq::recurrence);
  library.impl("recurrence_backward", &seq2seq::recurrence_backward);
  library.impl("recurrences", &seq2seq::recurrences);
  library.impl("recurrences_backward", &seq2seq::recurrences_backward);
  library.impl("cell_step", &seq2seq::cell_step);
  library.impl("cell_step_backward", &seq2seq::cell_step_backward);
}
