// One step of a cell from its summed inputs, without the products: what all cells and norms share.
// A loop whose input depends on the step before runs so, and has one gradient of each weight.
//
// R rows, H features, G gates. U, P and the other symbols are those of steps.h.
#pragma once

#include <tuple>

#include "steps.h"

namespace seq2seq {

// What enters a step.
struct SummedInputs {
  Tensor u;          // (R, G * H): W_ih x_t
  OptionalTensor z;  // (R, G * H): W_hh h_{t-1}, of the products' type; none where h_{t-1} is none
  OptionalTensor h, c;  // (R, H): the state before

  SummedInputs(const Tensor& given_u, const OptionalTensor& given_z, const OptionalTensor& given_h,
               const OptionalTensor& given_c)
      : u(given_u.contiguous()),
        z(contiguous(given_z)),
        h(contiguous(given_h)),
        c(contiguous(given_c)) {}

  // The type of the products.
  at::ScalarType products() const { return z ? z->scalar_type() : u.scalar_type(); }

  void check(int64_t gates) const {
    TORCH_CHECK(u.dim() == 2 && u.size(0) > 0 && u.size(1) % gates == 0, "expected u (R, ", gates,
                " * H), got ", u.sizes());
    TORCH_CHECK(!z || z->sizes() == u.sizes(), "expected z ", u.sizes(), ", got ", z->sizes());
    for (const OptionalTensor& state : {h, c})
      TORCH_CHECK(!state || (state->sizes() == at::IntArrayRef({u.size(0), u.size(1) / gates}) &&
                             state->scalar_type() == at::kFloat),
                  "expected float states (", u.size(0), ", ", u.size(1) / gates, "), got ",
                  state->sizes(), " of type ", state->scalar_type());
  }

  // The step that leads to h, c (empty for cells without one) and `kept`, which may be empty.
  template <typename U, typename P>
  Step<U, P> step(const Tensor& h_now, const Tensor& c_now, const Tensor& kept) const {
    const auto data = []<typename T>(const OptionalTensor& t, T) {
      return t ? t->const_data_ptr<T>() : nullptr;
    };
    return {0,
            0,
            u.size(0),
            u.const_data_ptr<U>(),
            data(z, P()),
            data(h, float()),
            data(c, float()),
            h_now.data_ptr<float>(),
            c_now.size(0) ? c_now.data_ptr<float>() : nullptr,
            kept.size(0) ? kept.data_ptr<P>() : nullptr};
  }
};

// Room for the state after a step; no c for cells without one.
struct NewState {
  Tensor h, c;

  NewState(int64_t rows, int64_t H, bool has_cell)
      : h(at::empty({rows, H}, at::kFloat)), c(at::empty({has_cell ? rows : 0, H}, at::kFloat)) {}
};

// The gradients of u, z, what is carried (c of the LSTM, else h before the step, as far as it does
// not pass through z) and the vectors. z's is empty where it is u's.
using StepGradientTensors = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Where a step's gradients come from and go to.
struct StepGradientBuffers {
  Tensor h, later;       // (R, H): of h, and zeros for what the steps after add
  Tensor carried, u, z;  // (R, H), (R, G * H) and (R, G * H)

  StepGradientBuffers(const OptionalTensor& d_h, const OptionalTensor& d_carried,
                      const SummedInputs& in, const Tensor& h_now, bool same_terms)
      : h(float_or_zeros(d_h, h_now)),
        later(at::zeros(h_now.sizes(), at::kFloat)),
        carried(float_or_zeros(d_carried, h_now)),
        u(at::empty_like(in.u)),
        z(at::empty(same_terms ? at::IntArrayRef({0, 0}) : in.u.sizes(),
                    in.u.options().dtype(in.products()))) {
    if (d_carried) carried = carried.clone();  // the step writes to it
  }

  template <typename P>
  StepGradients<P> of_step() const {
    return {h.const_data_ptr<float>(), nullptr, 0, later.const_data_ptr<float>(),
            carried.data_ptr<float>()};
  }
};

}  // namespace seq2seq
