// Gains and biases of the cells, in the order of vectors.py. `V` is a pointer to them or to their
// gradients; kCount is their number in units of H.
#pragma once

#include <cstdint>
#include <string_view>

namespace seq2seq {

// Whether a kernel's cell has a state c beside h.
inline bool has_cell(std::string_view cell) { return cell.substr(0, 4) == "lstm"; }

// gain_ih, gain_hh, bias (both in one), each 4H; gain_c, bias_c, each H.
template <typename V>
struct LstmVectors {
  static constexpr int64_t kCount = 14;
  V gain_ih, gain_hh, bias, gain_c, bias_c;

  LstmVectors(V v, int64_t H)
      : gain_ih(v), gain_hh(v + 4 * H), bias(v + 8 * H), gain_c(v + 12 * H), bias_c(v + 13 * H) {}
};

// gain_ih, gain_hh, bias_ih, bias_hh, each 3H.
template <typename V>
struct GruVectors {
  static constexpr int64_t kCount = 12;
  V gain_ih, gain_hh, bias_ih, bias_hh;

  GruVectors(V v, int64_t H)
      : gain_ih(v), gain_hh(v + 3 * H), bias_ih(v + 6 * H), bias_hh(v + 9 * H) {}
};

// Of the sum of both terms: gain_ih, bias (both in one), each H.
template <typename V>
struct RnnVectors {
  static constexpr int64_t kCount = 2;
  V gain, bias;

  RnnVectors(V v, int64_t H) : gain(v), bias(v + H) {}
};

// Of separate terms: gain_ih, gain_hh, bias (both in one), each H.
template <typename V>
struct SeparateRnnVectors {
  static constexpr int64_t kCount = 3;
  V gain_ih, gain_hh, bias;

  SeparateRnnVectors(V v, int64_t H) : gain_ih(v), gain_hh(v + H), bias(v + 2 * H) {}
};

}  // namespace seq2seq
