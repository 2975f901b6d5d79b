// Every kernel of every ISA that this machine has: the same bits as every other ISA and for any
// number of rows, and close to a double-precision product of the dequantised numbers (an
// independent path).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/layout.h"
#include "kernels/table.h"
#include "tensor/dequant.h"
#include "tensor/half.h"
#include "unit/kernels/tables_util.h"

namespace hob {
namespace {

std::vector<float> random_floats(size_t n, uint32_t seed, float scale = 1.f) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.f, scale);
  std::vector<float> x(n);
  for (float& v : x) v = normal(rng);
  return x;
}

// Where a block's f16 scales (and minima) lie, so that random bytes do not make infinities.
std::vector<int> half_offsets(DType type) {
  switch (type) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ2_1:
      return {0, 2};
    case DType::kQ2_K:
      return {80, 82};
    case DType::kQ3_K:
      return {108};
    case DType::kQ6_K:
      return {208};
    case DType::kMXFP4:
      return {};
    default:
      return {0};
  }
}

std::vector<std::byte> random_weight(DType type, int rows, int cols, uint32_t seed) {
  const DTypeInfo& info = dtype_info(type);
  std::mt19937 rng(seed);
  std::vector<std::byte> w(row_bytes(type, cols) * static_cast<size_t>(rows));
  for (std::byte& b : w) b = static_cast<std::byte>(rng());
  std::uniform_real_distribution<float> scale(-0.02f, 0.02f);
  for (size_t at = 0; at < w.size(); at += static_cast<size_t>(info.block_bytes)) {
    for (int offset : half_offsets(type)) {
      const uint16_t h = f32_to_f16(scale(rng));
      std::memcpy(w.data() + at + offset, &h, 2);
    }
    if (type == DType::kMXFP4) w[at] = static_cast<std::byte>(118 + rng() % 8);
  }
  return w;
}

struct Acts {
  std::vector<int8_t> q;
  std::vector<float> d, dsum;
  std::vector<int32_t> sum16;
  std::vector<ActRow> rows;
};

Acts quantise(const KernelTable& kernels, const std::vector<float>& x, int n, int cols) {
  Acts a;
  const size_t c = static_cast<size_t>(cols), count = static_cast<size_t>(n);
  a.q.resize(count * c);
  a.d.resize(count * c / 32);
  a.dsum.resize(count * c / 32);
  a.sum16.resize(count * c / 16);
  for (size_t t = 0; t < count; t++) {
    const MutableActRow row{&a.q[t * c], &a.d[t * c / 32], &a.dsum[t * c / 32],
                            &a.sum16[t * c / 16]};
    kernels.quantise_row(&x[t * c], cols, row);
    a.rows.push_back({row.q, row.d, row.dsum, row.sum16});
  }
  return a;
}

class QuantTypes : public testing::TestWithParam<DType> {};

TEST_P(QuantTypes, layout_is_a_lossless_permutation) {
  const DType type = GetParam();
  for (int rows : {1, 15, 16, 17, 40}) {
    const int cols = 512;
    const auto stock = random_weight(type, rows, cols, 7);
    std::vector<std::byte> prepared(prepared_bytes(type, rows, cols), std::byte{0x55}),
        back(stock.size());
    prepare_weight(type, rows, cols, stock.data(), prepared.data());
    unprepare_weight(type, rows, cols, prepared.data(), back.data());
    EXPECT_EQ(stock, back) << rows;
    EXPECT_EQ(prepared.size() % 16, 0u);
  }
}

TEST_P(QuantTypes, same_bits_for_every_isa_and_row_count_and_close_to_double) {
  const DType type = GetParam();
  const int block = dtype_info(type).block;
  for (int cols :
       {block, 2 * block, 3 * block, 256 + (block == 32 ? 96 : 256), 1408 / block * block}) {
    const int rows = 48, n = 133;
    const auto stock = random_weight(type, rows, cols, static_cast<uint32_t>(cols));
    std::vector<std::byte> prepared(prepared_bytes(type, rows, cols));
    prepare_weight(type, rows, cols, stock.data(), prepared.data());
    const auto x = random_floats(static_cast<size_t>(n) * static_cast<size_t>(cols), 3);
    std::vector<float> w(static_cast<size_t>(rows) * static_cast<size_t>(cols));
    for (int r = 0; r < rows; r++)
      dequantise_row(type, stock.data() + row_bytes(type, cols) * static_cast<size_t>(r), cols,
                     &w[static_cast<size_t>(r * cols)]);

    std::vector<float> first;
    for (const KernelTable* kernels : tables()) {
      const Acts acts = quantise(*kernels, x, n, cols);
      const auto multiply = kernels->mul_panels[static_cast<size_t>(type)];
      ASSERT_NE(multiply, nullptr);
      std::vector<float> y(static_cast<size_t>(n * rows));
      multiply(prepared.data(), cols, rows / 16, acts.rows.data(), n, y.data(),
               static_cast<size_t>(rows));
      for (int count :
           {1, 2, 3, 4, 5, 7, 8, 9, 17}) {  // the GEMV forms and every remainder of the tiles
        std::vector<float> part(static_cast<size_t>(count * rows), -1.f);
        multiply(prepared.data(), cols, rows / 16, acts.rows.data() + 20, count, part.data(),
                 static_cast<size_t>(rows));
        ASSERT_EQ(std::memcmp(part.data(), &y[static_cast<size_t>(20 * rows)], part.size() * 4), 0)
            << kernels->isa << " cols " << cols << " rows " << count;
      }
      if (first.empty()) first = y;
      ASSERT_EQ(std::memcmp(first.data(), y.data(), y.size() * 4), 0)
          << kernels->isa << " cols " << cols;
      for (int t = 0; t < n; t += 11)
        for (int r = 0; r < rows; r++) {
          double exact = 0, magnitude = 0;
          for (int k = 0; k < cols; k++) {
            const double a = static_cast<double>(acts.rows[static_cast<size_t>(t)].q[k]) *
                             static_cast<double>(acts.rows[static_cast<size_t>(t)].d[k / 32]);
            const double product = static_cast<double>(w[static_cast<size_t>(r * cols + k)]) * a;
            exact += product;
            magnitude += std::fabs(product);
          }
          ASSERT_NEAR(y[static_cast<size_t>(t * rows + r)], exact, 2e-6 * magnitude + 1e-30)
              << kernels->isa << " cols " << cols;
        }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, QuantTypes,
                         testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                         DType::kQ8_0, DType::kQ2_K, DType::kQ3_K, DType::kQ4_K,
                                         DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS,
                                         DType::kMXFP4, DType::kQ2_1, DType::kQ3_0, DType::kG2,
                                         DType::kG3, DType::kG4, DType::kG8),
                         [](const auto& p) { return std::string(dtype_info(p.param).name); });

// Scales of MXFP4 are bare exponents: all 256, the two subnormal ones among them.
TEST(Kernels, every_exponent_of_mxfp4_gives_the_values_of_the_decoder) {
  constexpr int kRows = 256, kCols = 32;
  std::vector<std::byte> stock(row_bytes(DType::kMXFP4, kCols) * kRows, std::byte{0x22});
  for (int r = 0; r < kRows; r++)
    stock[row_bytes(DType::kMXFP4, kCols) * static_cast<size_t>(r)] = static_cast<std::byte>(r);
  std::vector<std::byte> prepared(prepared_bytes(DType::kMXFP4, kRows, kCols));
  prepare_weight(DType::kMXFP4, kRows, kCols, stock.data(), prepared.data());
  std::vector<float> x(kCols, 0.f), w(kCols);
  x[5] = 127.f;  // code 127, factor 1
  for (const KernelTable* kernels : tables()) {
    const Acts acts = quantise(*kernels, x, 1, kCols);
    std::vector<float> y(kRows);
    kernels->mul_panels[static_cast<size_t>(DType::kMXFP4)](prepared.data(), kCols, kRows / 16,
                                                            acts.rows.data(), 1, y.data(), kRows);
    for (int r = 0; r < kRows; r++) {
      dequantise_row(DType::kMXFP4,
                     stock.data() + row_bytes(DType::kMXFP4, kCols) * static_cast<size_t>(r), kCols,
                     w.data());
      EXPECT_EQ(y[static_cast<size_t>(r)], 127.f * w[5]) << kernels->isa << " exponent " << r;
    }
  }
}

TEST(Kernels, extreme_codes_and_activations_do_not_saturate) {
  // All codes and activations at their limits: AVX2's 16-bit intermediate sums must not clip.
  const int cols = 256, rows = 16;
  for (DType type :
       {DType::kQ8_0, DType::kQ6_K, DType::kQ4_K, DType::kIQ4_NL, DType::kG4, DType::kG8})
    for (int fill : {0x00, 0x7f, 0x80, 0x81, 0xff}) {
      auto stock = random_weight(type, rows, cols, 1);
      for (size_t at = 0; at < stock.size();
           at += static_cast<size_t>(dtype_info(type).block_bytes))
        for (int i = type == DType::kQ6_K ? 0 : 4;
             i < (type == DType::kQ6_K ? 192 : dtype_info(type).block_bytes); i++)
          stock[at + static_cast<size_t>(i)] = static_cast<std::byte>(fill);
      std::vector<std::byte> prepared(prepared_bytes(type, rows, cols));
      prepare_weight(type, rows, cols, stock.data(), prepared.data());
      std::vector<float> x(static_cast<size_t>(cols));
      for (int k = 0; k < cols; k++) x[static_cast<size_t>(k)] = fill % 2 ? 1.f : -1.f;
      std::vector<float> first;
      for (const KernelTable* kernels : tables()) {
        const Acts acts = quantise(*kernels, x, 1, cols);
        std::vector<float> y(rows);
        kernels->mul_panels[static_cast<size_t>(type)](prepared.data(), cols, 1, acts.rows.data(),
                                                       1, y.data(), rows);
        if (first.empty()) first = y;
        EXPECT_EQ(first, y) << kernels->isa << " " << fill;
      }
    }
}

TEST(Kernels, float_rows_same_bits_for_every_isa_and_row_count) {
  for (int cols : {1, 2, 15, 16, 17, 31, 33, 64, 255, 1023}) {
    const int rows = 7, n = 9;
    const auto w32 = random_floats(static_cast<size_t>(rows * cols), 5);
    const auto x = random_floats(static_cast<size_t>(n * cols), 6);
    std::vector<uint16_t> w16(w32.size()), wb16(w32.size());
    for (size_t i = 0; i < w32.size(); i++) {
      w16[i] = f32_to_f16(w32[i]);
      wb16[i] = f32_to_bf16(w32[i]);
    }
    std::vector<const float*> rows_of_x;
    for (int t = 0; t < n; t++) rows_of_x.push_back(&x[static_cast<size_t>(t * cols)]);
    const auto check = [&](KernelTable::MulRows KernelTable::*member, const void* w, auto value) {
      std::vector<float> first;
      for (const KernelTable* kernels : tables()) {
        std::vector<float> y(static_cast<size_t>(n * rows)), one(static_cast<size_t>(rows));
        (kernels->*member)(static_cast<const std::byte*>(w), cols, rows, rows_of_x.data(), n,
                           y.data(), static_cast<size_t>(rows));
        for (int t = 0; t < n; t++) {
          (kernels->*member)(static_cast<const std::byte*>(w), cols, rows, rows_of_x.data() + t, 1,
                             one.data(), static_cast<size_t>(rows));
          ASSERT_EQ(std::memcmp(one.data(), &y[static_cast<size_t>(t * rows)], one.size() * 4), 0)
              << kernels->isa << cols;
          for (int r = 0; r < rows; r++) {
            double exact = 0, magnitude = 0;
            for (int k = 0; k < cols; k++) {
              const double p = static_cast<double>(value(r * cols + k)) *
                               static_cast<double>(x[static_cast<size_t>(t * cols + k)]);
              exact += p;
              magnitude += std::fabs(p);
            }
            ASSERT_NEAR(one[static_cast<size_t>(r)], exact, 1e-6 * magnitude + 1e-30);
          }
        }
        if (first.empty()) first = y;
        ASSERT_EQ(std::memcmp(first.data(), y.data(), y.size() * 4), 0) << kernels->isa << cols;
      }
    };
    check(&KernelTable::mul_rows_f32, w32.data(),
          [&](int i) { return w32[static_cast<size_t>(i)]; });
    check(&KernelTable::mul_rows_f16, w16.data(),
          [&](int i) { return f16_to_f32(w16[static_cast<size_t>(i)]); });
    check(&KernelTable::mul_rows_bf16, wb16.data(),
          [&](int i) { return bf16_to_f32(wb16[static_cast<size_t>(i)]); });
  }
}

TEST(Kernels, quantised_activations_round_to_nearest_even_within_half_a_step) {
  auto x = random_floats(4096, 9);
  for (int i = 0; i < 32; i++) x[static_cast<size_t>(i)] = 0.f;  // an all-zero block
  for (const KernelTable* kernels : tables()) {
    const Acts a = quantise(*kernels, x, 1, 4096);
    for (size_t i = 0; i < x.size(); i++)
      ASSERT_LE(std::fabs(static_cast<float>(a.q[i]) * a.d[i / 32] - x[i]), 0.5001f * a.d[i / 32])
          << kernels->isa;
    for (size_t s = 0; s < a.sum16.size(); s++) {
      int32_t sum = 0;
      for (size_t j = 0; j < 16; j++) sum += a.q[16 * s + j];
      ASSERT_EQ(sum, a.sum16[s]);
    }
    EXPECT_EQ(a.d[0], 0.f);
  }
}

TEST(Kernels, exp_is_within_3e7_over_the_whole_range) {
  std::vector<float> x;
  for (float v = -86.f; v < 0.f; v += 0.01f) x.push_back(v);
  std::vector<float> first;
  for (const KernelTable* kernels : tables()) {
    std::vector<float> all;
    for (float v : x) {
      float pair[2] = {v, 0.f};  // softmax of (v, 0): e^v / (1 + e^v)
      kernels->softmax(pair, 2);
      all.push_back(pair[0]);
      const double exact =
          std::exp(static_cast<double>(v)) / (1 + std::exp(static_cast<double>(v)));
      ASSERT_NEAR(pair[0], exact, 3e-7 * exact) << kernels->isa << v;
    }
    if (first.empty()) first = all;
    ASSERT_EQ(std::memcmp(first.data(), all.data(), all.size() * 4), 0) << kernels->isa;
  }
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Against the formulas as the models' authors write them, in double; the same bits in every ISA.
TEST(Kernels, GatedUnitsAndLayerNormAgreeWithPlainFormulas) {
  const auto gelu = [](double g, double u) {
    return g / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (g + 0.044715 * g * g * g))) *
           u;
  };
  const auto clamped = [](double g, double u) {
    g = std::min(g, 7.);
    return g * sigmoid(1.702 * g) * (std::clamp(u, -7., 7.) + 1);
  };
  for (int n : {1, 15, 16, 100, 2048}) {
    const auto size = static_cast<size_t>(n);
    const auto x = random_floats(size, 1, 6.f), w = random_floats(size, 2, 6.f),
               b = random_floats(size, 3);
    double mean = 0, variance = 0;
    for (const float v : x) mean += static_cast<double>(v) / n;
    for (const float v : x) variance += std::pow(static_cast<double>(v) - mean, 2) / n;
    std::vector<std::vector<float>> first;
    for (const KernelTable* kernels : tables()) {
      std::vector<std::vector<float>> all(5, std::vector<float>(size));
      for (size_t u = 0; u < kNGatedUnits; u++)
        kernels->gated_unit[u](x.data(), w.data(), n, all[u].data());
      kernels->layer_norm(x.data(), w.data(), b.data(), n, 1e-5f, all[4].data());
      for (size_t i = 0; i < size; i++) {
        const auto g = static_cast<double>(x[i]), u = static_cast<double>(w[i]);
        const double tolerance = 2e-6 * (1 + std::abs(g * u));
        ASSERT_NEAR(all[0][i], g * sigmoid(g) * u, tolerance);
        ASSERT_NEAR(all[1][i], gelu(g, u), tolerance);
        ASSERT_NEAR(all[2][i], gelu(g, u), 1e-3 * (std::abs(u) + std::abs(gelu(g, u))));
        ASSERT_NEAR(all[3][i], clamped(g, u), tolerance);
        ASSERT_NEAR(all[4][i],
                    (g - mean) / std::sqrt(variance + 1e-5) * u + static_cast<double>(b[i]), 1e-4);
      }
      if (first.empty()) first = all;
      ASSERT_EQ(all, first) << kernels->isa;
    }
  }
}

TEST(Kernels, norm_swiglu_axpy_half_agree_with_plain_formulas) {
  for (int n : {1, 15, 16, 31, 64, 100, 2048}) {
    const auto x = random_floats(static_cast<size_t>(n), 1, 3.f),
               w = random_floats(static_cast<size_t>(n), 2);
    double ss = 0;
    for (float v : x) ss += static_cast<double>(v) * static_cast<double>(v);
    std::vector<float> norm0, act0, axpy0;
    for (const KernelTable* kernels : tables()) {
      std::vector<float> norm(x.size()), act(x.size()), sum = w;
      kernels->rms_norm(x.data(), w.data(), n, 1e-5f, norm.data());
      kernels->gated_unit[0](x.data(), w.data(), n, act.data());
      kernels->axpy(0.3f, x.data(), n, sum.data());
      for (size_t i = 0; i < x.size(); i++) {
        const double v = static_cast<double>(x[i]), u = static_cast<double>(w[i]);
        ASSERT_NEAR(norm[i], v / std::sqrt(ss / n + 1e-5) * u, 1e-5);
        ASSERT_NEAR(act[i], v / (1 + std::exp(-v)) * u, 1e-5);
      }
      if (norm0.empty()) norm0 = norm, act0 = act, axpy0 = sum;
      ASSERT_EQ(norm, norm0) << kernels->isa;
      ASSERT_EQ(act, act0) << kernels->isa;
      ASSERT_EQ(sum, axpy0) << kernels->isa;
    }
  }
}

TEST(Kernels, half_conversion_matches_every_bit_pattern) {
  for (const KernelTable* kernels : tables()) {
    for (uint32_t h = 0; h < 0x10000; h += 16) {
      uint16_t w[16];
      for (uint32_t i = 0; i < 16; i++) w[i] = static_cast<uint16_t>(h + i);
      for (int i = 0; i < 16; i++) {  // a one-column "matrix": y = w * 1
        const float one = 1.f, *x = &one;
        float y;
        kernels->mul_rows_f16(reinterpret_cast<const std::byte*>(&w[i]), 1, 1, &x, 1, &y, 1);
        const float expected = f16_to_f32(w[i]);
        if (std::isnan(expected))
          ASSERT_TRUE(std::isnan(y));
        else
          ASSERT_EQ(y, expected) << kernels->isa << " " << w[i];
      }
    }
  }
}

TEST(Kernels, float_ops_same_bits_on_awkward_values) {
  // Zeros of both signs, subnormals, the ends of exp's range (40 - 127 = -87), overflow, ties. 32
  // of them, so that they are one block of activations too; its scale is 1.
  const std::vector<float> x = {0.f,       -0.f,       1e-40f, -1e-40f,    1e-45f, 1.17549435e-38f,
                                -3e-39f,   0.5f,       1.5f,   2.5f,       -0.5f,  -1.5f,
                                -2.5f,     126.5f,     125.5f, -126.5f,    -127.,  127.,
                                86.99999f, -86.99999f, -87.f,  -87.00001f, 87.5f,  88.f,
                                -88.f,     40.f,       -3.5f,  1e-30f,     -1e-8f, 1.f,
                                -1.f,      64.5f};
  std::vector<float> y = x, huge = x;
  std::reverse(y.begin(), y.end());
  for (float& v : huge) v *= 1e30f;
  std::vector<std::vector<float>> first;
  for (const KernelTable* kernels : tables()) {
    std::vector<std::vector<float>> all;
    const auto add = [&](const auto& op, const std::vector<float>& in) {
      for (int n : {32, 31, 17, 3}) {
        std::vector<float> out = y;
        op(in.data(), n, out.data());
        all.push_back(out);
      }
    };
    for (const auto& in : {x, y, huge}) {
      add([&](auto* a, int n, auto* o) { kernels->rms_norm(a, x.data(), n, 1e-6f, o); }, in);
      add([&](auto* a, int n, auto* o) { kernels->gated_unit[0](a, x.data(), n, o); }, in);
      add([&](auto* a, int n, auto* o) { kernels->axpy(-3e-8f, a, n, o); }, in);
      add([&](auto* a, int n, auto* o) { kernels->add(a, n, o); }, in);
      add([&](auto* a, int n, auto* o) { std::copy(a, a + n, o), kernels->softmax(o, n); }, in);
      const Acts acts = quantise(*kernels, in, 1, 32);
      all.push_back({acts.q.begin(), acts.q.end()});
      all.push_back({acts.d[0], acts.dsum[0]});
    }
    const Acts acts = quantise(*kernels, x, 1, 32);
    EXPECT_EQ(acts.d[0], 1.f);
    const std::vector<int8_t> ties(acts.q.begin() + 7, acts.q.begin() + 16);
    EXPECT_EQ(ties, (std::vector<int8_t>{0, 2, 2, 0, -2, -2, 126, 126, -126})) << kernels->isa;
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); i++)
      ASSERT_EQ(std::memcmp(first[i].data(), all[i].data(), all[i].size() * 4), 0)
          << kernels->isa << " result " << i;
  }
}

// The comparisons of this file are empty with a table missing: whoever knows the CPU (the tests
// under an emulator) says what has to be there.
TEST(Kernels, the_best_isa_is_the_expected_one) {
  const char* expected = std::getenv("HOB_EXPECT_ISA");
  EXPECT_STREQ(select_kernels(nullptr).isa, expected ? expected : tables().front()->isa);
  EXPECT_STREQ(tables().back()->isa, "scalar");
}

TEST(Kernels, unknown_forced_isa_is_an_error_that_lists_the_known_ones) {
  try {
    select_kernels("sse9");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("scalar"), std::string::npos);
  }
  EXPECT_STREQ(select_kernels("scalar").isa, "scalar");
}

}  // namespace
}  // namespace hob
