#pragma once
// Layouts of the quantised blocks as they lie in files. Ref: research notes, serving §3.2; the
// meaning of every field is in dequant.cc. Packed: a row may start at any byte, so a block has no
// alignment of its own.
#include <array>
#include <cstdint>

namespace hob {

// Elements per block of Q4_0 ... Q8_0, IQ4_NL, MXFP4, Q2_1, Q3_0, G2 ... G8 ...
constexpr int kBlock32 = 32;
constexpr int kBlock256 = 256;  // ... and of the K types and IQ4_XS

#pragma pack(push, 1)

struct BlockQ4_0 {
  uint16_t d;      // f16 scale
  uint8_t qs[16];  // byte j: element j (low nibble), element j+16 (high nibble)
};
struct BlockQ4_1 {
  uint16_t d, m;  // f16 scale, f16 minimum
  uint8_t qs[16];
};
struct BlockQ5_0 {
  uint16_t d;
  uint8_t qh[4];  // bit j: fifth bit of element j
  uint8_t qs[16];
};
struct BlockQ5_1 {
  uint16_t d, m;
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ8_0 {
  uint16_t d;
  int8_t qs[32];
};

struct BlockQ2_K {
  uint8_t scales[16];  // per 16 elements: scale (low nibble), minimum (high nibble)
  uint8_t qs[64];
  uint16_t d, dmin;
};
struct BlockQ3_K {
  uint8_t hmask[32];   // third bits
  uint8_t qs[64];      // low two bits
  uint8_t scales[12];  // sixteen 6-bit scales
  uint16_t d;
};
struct BlockQ4_K {
  uint16_t d, dmin;
  uint8_t scales[12];  // eight 6-bit scales and eight 6-bit minima, see scale_min_6bit
  uint8_t qs[128];
};
struct BlockQ5_K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qh[32];  // fifth bits
  uint8_t qs[128];
};
struct BlockQ6_K {
  uint8_t ql[128];    // low four bits
  uint8_t qh[64];     // high two bits
  int8_t scales[16];  // per 16 elements
  uint16_t d;
};

struct BlockIQ4_NL {
  uint16_t d;
  uint8_t qs[16];  // indices into kIQ4Values, nibbles in Q4_0 order
};
struct BlockIQ4_XS {
  uint16_t d;
  uint16_t scales_h;    // eight pairs of high bits
  uint8_t scales_l[4];  // eight low nibbles
  uint8_t qs[128];
};
struct BlockMXFP4 {
  uint8_t e;       // shared exponent, E8M0
  uint8_t qs[16];  // indices into kMXFP4Values, nibbles in Q4_0 order
};

// hob's own (kFirstInternalType). Codes lie so that a 4-byte unit of a prepared panel gives its
// lines by shifts alone: element j's low two bits are bits 2*(j/8) of byte j%8, its third bit is
// bit j/4 of byte j%4.
struct BlockQ2_1 {
  uint16_t d, m;  // f16 scale, f16 offset: d * q + m, q in 0..3
  uint8_t qs[8];
};
struct BlockQ3_0 {
  uint16_t d;     // f16 scale: d * (q - 4), q in 0..7
  uint8_t qs[8];  // low two bits
  uint8_t qh[4];  // third bits
};
// d * (q - z): q as in Q2_1, Q3_0, Q4_0 and Q8_0. G8's q and z are less 128.
struct BlockG2 {
  uint16_t d;  // f16 scale
  uint8_t z, qs[8];
};
struct BlockG3 {
  uint16_t d;
  uint8_t z, qs[8], qh[4];
};
struct BlockG4 {
  uint16_t d;
  uint8_t z, qs[16];
};
struct BlockG8 {
  uint16_t d;
  int8_t z, qs[32];
};

#pragma pack(pop)

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136 && sizeof(BlockMXFP4) == 17);
static_assert(sizeof(BlockQ2_1) == 12 && sizeof(BlockQ3_0) == 14);
static_assert(sizeof(BlockG2) == 11 && sizeof(BlockG3) == 15 && sizeof(BlockG4) == 19 &&
              sizeof(BlockG8) == 35);

// IQ4's non-uniform steps: denser near zero, where weights are.
inline constexpr std::array<int8_t, 16> kIQ4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};
// E2M1 doubled, so that all are integers.
inline constexpr std::array<int8_t, 16> kMXFP4Values = {0, 1,  2,  3,  4,  6,  8,  12,
                                                        0, -1, -2, -3, -4, -6, -8, -12};

struct ScaleMin {
  uint8_t scale, min;  // 0..63
};

// Sub-block j (0..7) of Q4_K and Q5_K. Bytes 0-3 and 4-7 hold the first four scales and minima in
// their low six bits; the last four have their low nibbles in bytes 8-11 and their high bits on top
// of bytes 0-7.
constexpr ScaleMin scale_min_6bit(const uint8_t* s, int j) {
  if (j < 4) return {static_cast<uint8_t>(s[j] & 63), static_cast<uint8_t>(s[j + 4] & 63)};
  return {static_cast<uint8_t>((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4)),
          static_cast<uint8_t>((s[j + 4] >> 4) | ((s[j] >> 6) << 4))};
}

// Writes sub-block j's 6-bit scale and minimum; the inverse of scale_min_6bit. `s` starts zeroed.
constexpr void put_scale_min_6bit(uint8_t* s, int j, int scale, int min) {
  if (j < 4) {
    s[j] |= static_cast<uint8_t>(scale);
    s[j + 4] |= static_cast<uint8_t>(min);
  } else {
    s[j + 4] = static_cast<uint8_t>((scale & 15) | ((min & 15) << 4));
    s[j - 4] |= static_cast<uint8_t>((scale >> 4) << 6);
    s[j] |= static_cast<uint8_t>((min >> 4) << 6);
  }
}

}  // namespace hob
