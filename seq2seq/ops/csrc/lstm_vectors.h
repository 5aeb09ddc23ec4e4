// The vectors of the LSTM, in the order in which ../cpu.py puts them into one.
#pragma once

#include <cstdint>

namespace seq2seq {

// gain_ih, gain_hh, bias (both in one), each 4H; gain_c, bias_c, each H. `V` is a pointer to them or their gradients.
template <typename V>
struct LstmVectors {
  static constexpr int64_t kCount = 14;  // times H
  V gain_ih, gain_hh, bias, gain_c, bias_c;

  LstmVectors(V v, int64_t H)
      : gain_ih(v), gain_hh(v + 4 * H), bias(v + 8 * H), gain_c(v + 12 * H), bias_c(v + 13 * H) {}
};

}  // namespace seq2seq
