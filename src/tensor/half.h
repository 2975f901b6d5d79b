#pragma once
// 16-bit floats in integer arithmetic: exact on every machine, usable at compile time. Kernels use
// the machine's instructions where it has them and are tested against these.
#include <bit>
#include <cstdint>

namespace hob {

// IEEE binary16 -> binary32. Every value is exact, including denormals, infinities and signed zero.
constexpr float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1Fu;
  const uint32_t mantissa = half & 0x3FFu;
  if (exponent == 0x1F) {  // infinity, or NaN (made quiet, as the instructions do)
    const uint32_t quiet = mantissa != 0 ? 0x400000u : 0;
    return std::bit_cast<float>(sign | 0x7F800000u | quiet | (mantissa << 13));
  }
  if (exponent == 0) {  // zero and denormals: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  constexpr uint32_t kRebias = 127 - 15;
  return std::bit_cast<float>(sign | ((exponent + kRebias) << 23) | (mantissa << 13));
}

// Round to nearest, ties to even. Overflow gives infinity; NaN stays NaN.
constexpr uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) {
    return static_cast<uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));
  }
  // 65520 lies half-way between the largest half (65504) and 2^16, and ties go to the even side.
  if (magnitude >= std::bit_cast<uint32_t>(65520.0f)) return static_cast<uint16_t>(sign | 0x7C00u);
  if (magnitude < std::bit_cast<uint32_t>(0x1p-14f)) {
    // In [0.5, 1) floats are 2^-24 apart, which is the spacing of half denormals: the addition
    // rounds for us.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(
        sign | (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f)));
  }
  constexpr uint32_t kRebias = (127u - 15u) << 23;
  const uint32_t rebased = magnitude - kRebias;
  const uint32_t rounded = rebased + 0xFFFu + ((rebased >> 13) & 1u);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

// bfloat16 is the upper half of a binary32.
constexpr float bf16_to_f32(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

// Round to nearest, ties to even; NaN stays NaN.
constexpr uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

// 2^(e-128): the shared exponent of an MXFP4 block (2^(e-127)), halved because its table of values
// is doubled.
constexpr float e8m0_half_to_f32(uint8_t e) {
  const uint32_t bits =
      e < 2 ? 0x200000u << e : static_cast<uint32_t>(e - 1) << 23;  // e < 2: denormal
  return std::bit_cast<float>(bits);
}

}  // namespace hob
