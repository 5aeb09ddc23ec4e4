// The LSTM with batch norm: between two products one pass over features, shared by threads.

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <tuple>

#include "lstm_columns.h"

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
  int64_t batch_steps;  // so many of the first steps are normalised by their own statistics
  double eps;
  bool normalises_input, pack_weight;
};

using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename U, typename P>
Outputs forward(const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0, const OptionalTensor& c_0,
                const Tensor& vectors, const Tensor& mean, const Tensor& var, const Settings& settings, bool save) {
  const int64_t H = weight_hh.size(1);
  const Layer layer(vectors.const_data_ptr<float>(), H, settings.eps, settings.normalises_input);
  const Forward done = forward_steps<U, P>(
      u, weight_hh, h_0, c_0, settings.batch_sizes, true, settings.pack_weight, save, [&](const Step<U, P>& s) {
        const ColumnStep<U, P> step{s, s.t < settings.batch_steps, mean.mutable_data_ptr<float>() + s.t * kTerms * H,
                                    var.mutable_data_ptr<float>() + s.t * kTerms * H};
        for_blocks(s.rows, H, [&](int64_t first, int64_t width) { forward_block(layer, step, first, width); });
        if (s.kept_z) std::memcpy(s.kept_z, s.z, sizeof(P) * s.rows * kGates * H);
      });
  return {done.output, done.h_n, done.c_n, done.z, done.c, mean, var};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename U, typename P>
Gradients backward(const Incoming& d, const Kept& kept, const Tensor& vectors, const Tensor& mean, const Tensor& var,
                   const Settings& settings, bool weight_grad) {
  const int64_t H = kept.weight_hh.size(1), B = settings.batch_sizes[0];
  const auto floats = kept.u.options().dtype(at::kFloat);
  const Tensor dh = at::empty({B, H}, floats), da = at::empty({B, kGates * H}, floats), dn = at::empty({B, H}, floats);
  const Tensor sums = at::zeros({Layer::kCount * H}, floats);
  const Layer layer(vectors.const_data_ptr<float>(), H, settings.eps, settings.normalises_input);
  const LayerGradients gradient_sums(sums.mutable_data_ptr<float>(), H);
  const Backward done = backward_steps<U, P>(
      d, kept, settings.batch_sizes, true, false, settings.pack_weight, weight_grad,
      [&](const Step<U, P>& s, const StepGradients<P>& gradients, U* du, P* dz) {
        const ColumnStep<U, P> step{s, s.t < settings.batch_steps, mean.data_ptr<float>() + s.t * kTerms * H,
                                    var.data_ptr<float>() + s.t * kTerms * H};
        const BlockGradients<U, P> d_step{dh.const_data_ptr<float>(), gradients.carried, da.mutable_data_ptr<float>(),
                                          dn.mutable_data_ptr<float>(), du, dz};
        for (int64_t r = 0; r < s.rows; ++r) gradients.of_h(r, H, dh.mutable_data_ptr<float>() + r * H);
        for_blocks(s.rows, H, [&](int64_t first, int64_t width) {
          backward_block(layer, step, first, width, d_step, gradient_sums);
        });
      });
  return {done.u, done.weight_hh, done.h_0, done.carried, sums};
}

// -- operators -----------------------------------------------------------------------------------------------------

template <typename F>
auto with_types(at::ScalarType input, at::ScalarType products, const F& run) {
  TORCH_CHECK(input == at::kFloat || input == products, "expected an input term in float or the products' type, got ",
              input);
  if (products == at::kFloat) return run(float(), float());
  TORCH_CHECK(products == at::kBFloat16, "expected products in float or bfloat16, got ", products);
  return input == at::kFloat ? run(float(), BFloat16()) : run(BFloat16(), BFloat16());
}

Outputs batch_norm_recurrence(const Tensor& u, const Tensor& weight_hh, const OptionalTensor& h_0,
                              const OptionalTensor& c_0, const Tensor& vectors, const Tensor& mean, const Tensor& var,
                              at::IntArrayRef batch_sizes, int64_t batch_steps, double eps, bool normalises_input,
                              bool pack_weight, bool save) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const int64_t H = weight_hh.size(1);
  check_shapes(u, weight_hh, h_0, c_0, batch_sizes, kGates);
  check_vectors(vectors, Layer::kCount * H);
  const int64_t steps = batch_sizes.size();
  for (const Tensor& statistics : {mean, var})
    TORCH_CHECK(statistics.sizes() == at::IntArrayRef({steps, kTerms * H}) && statistics.scalar_type() == at::kFloat,
                "expected float statistics (", steps, ", ", kTerms * H, "), got ", statistics.sizes(), " of type ",
                statistics.scalar_type());
  return with_types(u.scalar_type(), weight_hh.scalar_type(), [&](auto input, auto product) {
    return forward<decltype(input), decltype(product)>(
        u.contiguous(), weight_hh, contiguous(h_0), contiguous(c_0), vectors.contiguous(),
        mean.clone(at::MemoryFormat::Contiguous), var.clone(at::MemoryFormat::Contiguous),
        {batch_sizes, batch_steps, eps, normalises_input, pack_weight}, save);
  });
}

Gradients batch_norm_recurrence_backward(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n, const Tensor& u,
    const Tensor& weight_hh, const OptionalTensor& h_0, const OptionalTensor& c_0, const Tensor& vectors,
    const Tensor& output, const Tensor& z, const Tensor& c, const Tensor& mean, const Tensor& var,
    at::IntArrayRef batch_sizes, int64_t batch_steps, double eps, bool normalises_input, bool pack_weight,
    bool weight_grad) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const Kept kept{u.contiguous(), weight_hh, contiguous(h_0), contiguous(c_0), output, z, c};
  const Incoming incoming(d_output, d_h_n, d_c_n, kept, batch_sizes[0]);
  return with_types(u.scalar_type(), weight_hh.scalar_type(), [&](auto input, auto product) {
    return backward<decltype(input), decltype(product)>(
        incoming, kept, vectors.contiguous(), mean, var, {batch_sizes, batch_steps, eps, normalises_input, pack_weight},
        weight_grad);
  });
}

}  // namespace
}  // namespace seq2seq

TORCH_LIBRARY_FRAGMENT(seq2seq, library) {
  library.def(
      "batch_norm_recurrence(Tensor u, Tensor weight_hh, Tensor? h_0, Tensor? c_0, Tensor vectors, Tensor mean, "
      "Tensor var, int[] batch_sizes, int batch_steps, float eps, bool normalises_input, bool pack_weight, bool save) "
      "-> (Tensor output, Tensor h_n, Tensor c_n, Tensor z, Tensor c, Tensor mean, Tensor var)");
  library.def(
      "batch_norm_recurrence_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor u, Tensor weight_hh, "
      "Tensor? h_0, Tensor? c_0, Tensor vectors, Tensor output, Tensor z, Tensor c, Tensor mean, Tensor var, "
      "int[] batch_sizes, int batch_steps, float eps, bool normalises_input, bool pack_weight, bool weight_grad) -> "
      "(Tensor u, Tensor weight_hh, Tensor h_0, Tensor c_0, Tensor vectors)");
}

TORCH_LIBRARY_IMPL(seq2seq, MkldnnCPU, library) {  // for packed weights
  library.impl("batch_norm_recurrence", &seq2seq::batch_norm_recurrence);
}

TORCH_LIBRARY_IMPL(seq2seq, CPU, library) {
  library.impl("batch_norm_recurrence", &seq2seq::batch_norm_recurrence);
  library.impl("batch_norm_recurrence_backward", &seq2seq::batch_norm_recurrence_backward);
}
