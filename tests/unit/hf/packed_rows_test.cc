// Packed arrays made here, bit by bit as research notes, serving §3.7 describe them, and read back.
#include "hf/packed_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/error.h"
#include "tensor/dequant.h"
#include "tensor/half.h"

namespace hob {
namespace {

using Words = std::vector<uint32_t>;

// `bits` of `value` from bit `at` on of a row of words that are `step` words apart.
void put(Words& words, size_t first, size_t step, int64_t at, int bits, uint32_t value) {
  for (int i = 0; i < bits; i++) {
    const auto word = first + static_cast<size_t>((at + i) / 32) * step;
    words[word] |= (value >> i & 1u) << ((at + i) % 32);
  }
}

struct Case {
  HfPacking packing;
  int64_t n_out, n_in;
  std::string name;
};

// A random layer, packed.
struct Layer {
  explicit Layer(const Case& c) : packing(c.packing), n_out(c.n_out), n_in(c.n_in) {
    std::mt19937 rng(7);
    const int bits = packing.bits;
    const int64_t group = packing.group_of(n_in), n_groups = n_in / group;
    const uint32_t mask = (1u << bits) - 1;
    std::vector<uint32_t> zero(static_cast<size_t>(n_groups * n_out));
    std::vector<float> scale(zero.size());
    for (uint32_t& z : zero) z = packing.has_zeros ? rng() & mask : 1u << (bits - 1);
    if (bits == 3 && packing.zeros_less_one)
      for (uint32_t& z : zero) z = 1 + rng() % 8;  // no wrap there
    for (float& s : scale)
      s = f16_to_f32(f32_to_f16(std::uniform_real_distribution<float>(-.1f, .1f)(rng)));
    codes.resize(static_cast<size_t>(n_in * n_out * bits / 32));
    zeros.resize(packing.has_zeros ? static_cast<size_t>(n_groups * n_out * bits / 32) : 0);
    scales.resize(scale.size());
    weights.resize(static_cast<size_t>(n_in * n_out));
    for (int64_t n = 0; n < n_out; n++) {
      for (int64_t g = 0; g < n_groups; g++) {
        const uint32_t z = zero[static_cast<size_t>(g * n_out + n)];
        if (packing.has_zeros) put_zero(g, n, (z - (packing.zeros_less_one ? 1 : 0)) & mask);
        const bool by_row = packing.method == HfPackMethod::kCompressedTensors;
        scales[static_cast<size_t>(by_row ? n * n_groups + g : g * n_out + n)] =
            f32_to_f16(scale[static_cast<size_t>(g * n_out + n)]);
      }
      for (int64_t k = 0; k < n_in; k++) {
        const uint32_t q = rng() & mask;
        put_code(k, n, q);
        const auto at = static_cast<size_t>(k / group * n_out + n);
        weights[static_cast<size_t>(n * n_in + k)] =
            (static_cast<float>(q) - static_cast<float>(zero[at])) * scale[at];
      }
    }
  }

  void put_code(int64_t k, int64_t n, uint32_t q) {
    const int bits = packing.bits;
    const auto out = static_cast<size_t>(n_out);
    switch (packing.method) {
      case HfPackMethod::kGptq:
        return put(codes, static_cast<size_t>(n), out, k * bits, bits, q);
      case HfPackMethod::kAwq:
        return put_awq(codes, k, n, q);
      case HfPackMethod::kCompressedTensors:
        return put(codes, static_cast<size_t>(n * n_in * bits / 32), 1, k * bits, bits, q);
    }
  }
  void put_zero(int64_t g, int64_t n, uint32_t z) {
    const int bits = packing.bits;
    switch (packing.method) {
      case HfPackMethod::kGptq:
        return put(zeros, static_cast<size_t>(g * n_out * bits / 32), 1, n * bits, bits, z);
      case HfPackMethod::kAwq:
        return put_awq(zeros, g, n, z);
      case HfPackMethod::kCompressedTensors:
        return put(zeros, static_cast<size_t>(g),
                   static_cast<size_t>(n_in / packing.group_of(n_in)), n * bits, bits, z);
    }
  }
  void put_awq(Words& words, int64_t row, int64_t column, uint32_t value) const {
    constexpr int kOrder[] = {0, 2, 4, 6, 1, 3, 5, 7};  // nibble i holds column kOrder[i]
    for (int i = 0; i < 8; i++)
      if (kOrder[i] == column % 8)
        words[static_cast<size_t>(row * (n_out / 8) + column / 8)] |= value << (4 * i);
  }

  PackedLinear linear() const {
    return {.packing = packing,
            .name = "layer",
            .n_out = n_out,
            .n_in = n_in,
            .codes = std::as_bytes(std::span(codes)),
            .zeros = std::as_bytes(std::span(zeros)),
            .scales = std::as_bytes(std::span(scales)),
            .groups = std::as_bytes(std::span(groups)),
            .scale_type = SafeType::kF16};
  }

  HfPacking packing;
  int64_t n_out, n_in;
  Words codes, zeros;
  std::vector<uint16_t> scales;
  std::vector<int32_t> groups;
  std::vector<float> weights;  // what it all means
};

std::vector<Case> cases() {
  std::vector<Case> out;
  for (int bits : {2, 3, 4, 8})
    for (const bool v1 : {true, false})
      for (const int64_t group : {int64_t{32}, int64_t{96}, HfPacking::kWholeRow})
        out.push_back({{HfPackMethod::kGptq, bits, group, v1, true},
                       64,
                       192,
                       fmt::format("gptq{}_v{}_{}", bits, v1 ? 1 : 2,
                                   group < 0 ? "row" : std::to_string(group))});
  out.push_back({{HfPackMethod::kAwq, 4, 64, false, true}, 40, 128, "awq"});
  for (int bits : {4, 8})
    for (const bool zeros : {true, false})
      out.push_back({{HfPackMethod::kCompressedTensors, bits, 64, false, zeros},
                     24,
                     128,
                     fmt::format("compressed{}_{}", bits, zeros ? "zeros" : "symmetric")});
  return out;
}

class Packed : public testing::TestWithParam<Case> {};

TEST_P(Packed, IsReadWithoutLoss) {
  Layer layer(GetParam());
  std::vector<float> floats(layer.weights.size());
  unpack_floats(layer.linear(), floats.data());
  EXPECT_EQ(floats, layer.weights);

  const DType type = packed_type(layer.packing);
  const size_t stride = row_bytes(type, layer.n_in);
  std::vector<std::byte> rows(stride * static_cast<size_t>(layer.n_out));
  unpack_rows(layer.linear(), rows.data());
  std::vector<float> back(layer.weights.size());
  for (int64_t n = 0; n < layer.n_out; n++)
    dequantise_row(type, rows.data() + static_cast<size_t>(n) * stride, layer.n_in,
                   back.data() + n * layer.n_in);
  EXPECT_EQ(back, layer.weights);
}

TEST_P(Packed, FastAndPlainGiveTheSameBytes) {
  for (const int64_t n_out : {32, 64, 160}) {  // less than a tile of outputs, one, and a half more
    Case c = GetParam();
    c.n_out = n_out;
    Layer layer(c);
    const size_t n_bytes = row_bytes(packed_type(layer.packing), layer.n_in * n_out);
    std::vector<std::byte> fast(n_bytes), plain(n_bytes);
    unpack_rows(layer.linear(), fast.data());
    unpack_rows_plain(layer.linear(), plain.data());
    EXPECT_EQ(fast, plain) << n_out;
    const int64_t group = layer.packing.group_of(layer.n_in);
    for (int64_t k = 0; k < layer.n_in; k++)
      layer.groups.push_back(static_cast<int32_t>(k / group));
    std::shuffle(layer.groups.begin(), layer.groups.end(), std::mt19937(9));
    unpack_rows(layer.linear(), fast.data());
    unpack_rows_plain(layer.linear(), plain.data());
    EXPECT_EQ(fast, plain) << n_out << " shuffled";
  }
}

TEST_P(Packed, GroupsInOrderAreAsNone) {
  Layer layer(GetParam());
  const int64_t group = layer.packing.group_of(layer.n_in);
  std::vector<std::byte> none(row_bytes(packed_type(layer.packing), layer.n_in) *
                              static_cast<size_t>(layer.n_out)),
      in_order(none.size());
  unpack_rows(layer.linear(), none.data());
  for (int64_t k = 0; k < layer.n_in; k++) layer.groups.push_back(static_cast<int32_t>(k / group));
  unpack_rows(layer.linear(), in_order.data());
  EXPECT_EQ(none, in_order);
}

TEST_P(Packed, WhatIsPackedIsReadBack) {
  const HfPacking p = GetParam().packing;
  if (p.method == HfPackMethod::kCompressedTensors) return;  // not written
  const int64_t n_out = 64, n_in = 192, n_groups = n_in / p.group_of(n_in);
  std::mt19937 rng(11);
  std::vector<uint8_t> codes(static_cast<size_t>(n_out * n_in)),
      zeros(static_cast<size_t>(n_out * n_groups));
  std::vector<float> scales(zeros.size());
  for (uint8_t& q : codes) q = static_cast<uint8_t>(rng() % (1u << p.bits));
  for (uint8_t& z : zeros) z = static_cast<uint8_t>(1 + rng() % ((1u << p.bits) - 1));
  for (float& s : scales) s = f16_to_f32(static_cast<uint16_t>(0x2400 + rng() % 0x400));
  const PackedArrays a = pack_rows(
      p, {.n_out = n_out, .n_in = n_in, .codes = codes, .zeros = zeros, .scales = scales});
  const PackedLinear packed{.packing = p,
                            .name = "layer",
                            .n_out = n_out,
                            .n_in = n_in,
                            .codes = std::as_bytes(std::span(a.codes)),
                            .zeros = std::as_bytes(std::span(a.zeros)),
                            .scales = std::as_bytes(std::span(a.scales)),
                            .groups = {}};
  std::vector<float> back(codes.size()), expected(codes.size());
  unpack_floats(packed, back.data());
  for (size_t i = 0; i < codes.size(); i++) {
    const size_t g = i / static_cast<size_t>(p.group_of(n_in));
    expected[i] = scales[g] * static_cast<float>(codes[i] - zeros[g]);
  }
  EXPECT_EQ(back, expected);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Packed, testing::ValuesIn(cases()),
                         [](const auto& c) { return c.param.name; });

std::string error_of(const Layer& layer) {
  std::vector<std::byte> rows(row_bytes(packed_type(layer.packing), layer.n_in) *
                              static_cast<size_t>(layer.n_out));
  try {
    unpack_rows(layer.linear(), rows.data());
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(PackedFaults, NameTheLayer) {
  const Case c{{HfPackMethod::kGptq, 4, 32, true, true}, 64, 64, ""};
  Layer infinite(c);
  infinite.scales[3] = 0x7c00;
  EXPECT_NE(error_of(infinite).find("layer: expected finite scales"), std::string::npos);
  Layer outside(c);
  outside.groups.assign(64, 2);
  EXPECT_NE(error_of(outside).find("layer.g_idx: expected groups from 0 to 1"), std::string::npos);
  outside.groups.assign(64, -1);
  EXPECT_NE(error_of(outside).find("layer.g_idx: expected groups from 0 to 1"), std::string::npos);
  Layer uneven(c);  // 33 inputs of group 0
  for (int k = 0; k < 64; k++) uneven.groups.push_back(k > 32);
  EXPECT_NE(error_of(uneven).find("layer.g_idx: expected groups of whole blocks of 32 inputs"),
            std::string::npos);
}

TEST_P(Packed, GroupsInAnyOrder) {
  Layer layer(GetParam());
  const int64_t group = layer.packing.group_of(layer.n_in);
  for (int64_t k = 0; k < layer.n_in; k++) layer.groups.push_back(static_cast<int32_t>(k / group));
  EXPECT_TRUE(input_order(layer.linear()).empty());
  std::shuffle(layer.groups.begin(), layer.groups.end(), std::mt19937(5));
  std::vector<float> floats(layer.weights.size()), back(floats.size());
  unpack_floats(layer.linear(), floats.data());
  const std::vector<int32_t> order = input_order(layer.linear());
  ASSERT_EQ(order.empty(), group == layer.n_in);
  if (order.empty()) return;
  const DType type = packed_type(layer.packing);
  const size_t stride = row_bytes(type, layer.n_in);
  std::vector<std::byte> rows(stride * static_cast<size_t>(layer.n_out));
  unpack_rows(layer.linear(), rows.data());
  for (int64_t n = 0; n < layer.n_out; n++) {
    float* row = back.data() + n * layer.n_in;
    dequantise_row(type, rows.data() + static_cast<size_t>(n) * stride, layer.n_in, row);
    for (size_t k = 0; k < order.size(); k++)
      ASSERT_EQ(row[k], floats[static_cast<size_t>(n * layer.n_in + order[k])]) << n << " " << k;
  }
  for (size_t k = 1; k < order.size(); k++) {
    const int32_t last = layer.groups[static_cast<size_t>(order[k - 1])],
                  own = layer.groups[static_cast<size_t>(order[k])];
    EXPECT_TRUE(last < own || (last == own && order[k - 1] < order[k])) << k;
  }
}

TEST(PackedFaults, ScalesThatF16CannotHoldAreNotRounded) {
  const Case c{{HfPackMethod::kGptq, 4, 32, true, true}, 64, 64, ""};
  const Layer layer(c);
  PackedLinear linear = layer.linear();
  std::vector<float> scales(layer.scales.size(), 0.1f);
  linear.scales = std::as_bytes(std::span(scales));
  linear.scale_type = SafeType::kF32;
  std::vector<std::byte> rows(row_bytes(DType::kG4, 64) * 64);
  EXPECT_THROW(unpack_rows(linear, rows.data()), Error);
  scales.assign(scales.size(), 0.125f);
  EXPECT_NO_THROW(unpack_rows(linear, rows.data()));
}

TEST(PackedFloats, TakeGroupsInAnyOrder) {
  const Case c{{HfPackMethod::kGptq, 4, 32, true, true}, 64, 64, ""};
  Layer layer(c);
  std::vector<float> ordered(layer.weights.size()), shuffled(ordered.size());
  unpack_floats(layer.linear(), ordered.data());
  // Inputs 16 .. 31 change over to the second group, the others stay.
  for (int k = 0; k < 64; k++) layer.groups.push_back(k < 16 ? 0 : 1);
  unpack_floats(layer.linear(), shuffled.data());
  for (size_t n = 0; n < 64; n++) {
    // scales [group, output]; value = scale * (code - zero), so differences are in ratio of scales
    const float own = f16_to_f32(layer.scales[n]), other = f16_to_f32(layer.scales[64 + n]);
    for (size_t k = 0; k < 64; k++) {
      const size_t at = 64 * n + k, first = 64 * n + 16;
      if (k < 16 || k >= 32)
        EXPECT_EQ(shuffled[at], ordered[at]) << n << " " << k;
      else
        EXPECT_NEAR((shuffled[at] - shuffled[first]) * own, (ordered[at] - ordered[first]) * other,
                    1e-4f)
            << n << " " << k;
    }
  }
}

}  // namespace
}  // namespace hob
