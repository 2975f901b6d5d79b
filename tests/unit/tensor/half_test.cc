#include "tensor/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace hob {
namespace {

static_assert(f16_to_f32(0x3C00) == 1.0f && f32_to_f16(1.0f) == 0x3C00);
static_assert(f16_to_f32(0x0001) == 0x1p-24f && f32_to_f16(0x1p-24f) == 0x0001);

// The value of a half by its definition, in double.
double value_of(uint16_t half) {
  const int exponent = (half >> 10) & 31, mantissa = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

TEST(F16, EveryHalfWidensExactlyAndComesBack) {
  for (uint32_t h = 0; h < 0x10000; h++) {
    const auto half = static_cast<uint16_t>(h);
    const float wide = f16_to_f32(half);
    if ((half & 0x7C00) == 0x7C00) {
      ASSERT_EQ(std::isnan(wide), (half & 0x3FF) != 0) << h;
      ASSERT_EQ(std::isinf(wide), (half & 0x3FF) == 0) << h;
      ASSERT_EQ(std::signbit(wide), (half & 0x8000) != 0) << h;
      const uint16_t back = f32_to_f16(wide);
      ASSERT_EQ(std::isnan(f16_to_f32(back)), std::isnan(wide)) << h;
      ASSERT_TRUE(std::isnan(wide) || back == half) << h;
      continue;
    }
    ASSERT_EQ(static_cast<double>(wide), value_of(half)) << h;
    ASSERT_EQ(f32_to_f16(wide), half) << h;
  }
}

TEST(F16, TiesGoToEvenBetweenAnyTwoNeighbours) {
  for (uint32_t h = 0; h < 0x7BFF; h++) {
    const auto low = static_cast<uint16_t>(h), high = static_cast<uint16_t>(h + 1);
    const auto middle = static_cast<float>((value_of(low) + value_of(high)) / 2);
    const uint16_t even = h % 2 == 0 ? low : high;
    ASSERT_EQ(f32_to_f16(middle), even) << h;
    ASSERT_EQ(f32_to_f16(-middle), even | 0x8000) << h;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0f)), low) << h;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 1e9f)), high) << h;
  }
}

TEST(F16, Overflow) {
  EXPECT_EQ(f32_to_f16(65504.0f), 0x7BFF);
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7BFF);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7C00);
  EXPECT_EQ(f32_to_f16(-1e30f), 0xFC00);
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0x0000);  // a tie between 0 and the smallest denormal
  EXPECT_EQ(f32_to_f16(std::nextafter(0x1p-25f, 1.0f)), 0x0001);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::denorm_min()), 0x0000);
  EXPECT_EQ(f32_to_f16(-0.0f), 0x8000);
}

TEST(BF16, RoundsToNearestEven) {
  for (uint32_t h = 0; h < 0x10000; h++) {
    const auto half = static_cast<uint16_t>(h);
    const float wide = bf16_to_f32(half);
    if (std::isnan(wide)) {
      ASSERT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(wide))));
    } else {
      ASSERT_EQ(f32_to_bf16(wide), half);
    }
  }
  const auto from_bits = [](uint32_t bits) { return f32_to_bf16(std::bit_cast<float>(bits)); };
  EXPECT_EQ(from_bits(0x3F808000), 0x3F80);  // tie, even below
  EXPECT_EQ(from_bits(0x3F818000), 0x3F82);  // tie, even above
  EXPECT_EQ(from_bits(0x3F808001), 0x3F81);
  EXPECT_EQ(from_bits(0x7F7FFFFF), 0x7F80);  // overflows to infinity
  EXPECT_TRUE(std::isnan(bf16_to_f32(from_bits(0x7F800001))));
}

TEST(E8M0, IsAPowerOfTwo) {
  for (int e = 0; e < 256; e++) {
    EXPECT_EQ(e8m0_half_to_f32(static_cast<uint8_t>(e)), std::ldexp(1.0f, e - 128)) << e;
  }
}

}  // namespace
}  // namespace hob
