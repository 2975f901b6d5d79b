// The vector vocabulary in plain C++: 16 lanes as arrays. Included inside an anonymous namespace by
// tu.cc. fma is std::fma (one rounding), so this ISA gives the same bits as the others; it is the
// slow, portable twin.

// Nothing to keep in registers; unrolling arrays of arrays costs the compiler minutes.
#define HOB_UNROLL
#define HOB_INLINE_LAMBDA

struct V16 {
  float v[16];
};
struct I16 {
  int32_t v[16];
};
struct B16 {
  uint8_t v[16];
};  // one byte per row
struct B64 {
  uint8_t v[64];
};  // 16 rows x 4 consecutive codes

// Tokens per weight line in the tiled product: no registers to fill here.
constexpr int kTilePanels = 1;
constexpr int kTileActs = 1;
constexpr int kMaxGemvActs = 1;
constexpr int kAttnQueries = 1;
constexpr int kAttnBlocks = 1;

#define HOB_LANES for (int i = 0; i < 16; i++)
inline V16 vload(const float* p) {
  V16 r;
  memcpy(r.v, p, 64);
  return r;
}
inline void vstore(float* p, V16 a) { memcpy(p, a.v, 64); }
inline V16 vset1(float x) {
  V16 r;
  HOB_LANES r.v[i] = x;
  return r;
}
inline V16 vadd(V16 a, V16 b) {
  V16 r;
  HOB_LANES r.v[i] = a.v[i] + b.v[i];
  return r;
}
inline V16 vsub(V16 a, V16 b) {
  V16 r;
  HOB_LANES r.v[i] = a.v[i] - b.v[i];
  return r;
}
inline V16 vmul(V16 a, V16 b) {
  V16 r;
  HOB_LANES r.v[i] = a.v[i] * b.v[i];
  return r;
}
inline V16 vdiv(V16 a, V16 b) {
  V16 r;
  HOB_LANES r.v[i] = a.v[i] / b.v[i];
  return r;
}
inline V16 vfma(V16 a, V16 b, V16 c) {
  V16 r;
  HOB_LANES r.v[i] = fmaf(a.v[i], b.v[i], c.v[i]);
  return r;
}
// As x86: the second operand where either is NaN.
inline V16 vmax(V16 a, V16 b) {
  V16 r;
  HOB_LANES r.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return r;
}
inline V16 vmin(V16 a, V16 b) {
  V16 r;
  HOB_LANES r.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return r;
}
inline V16 vabs(V16 a) {
  V16 r;
  HOB_LANES r.v[i] = fabsf(a.v[i]);
  return r;
}
inline I16 iset1(int32_t x) {
  I16 r;
  HOB_LANES r.v[i] = x;
  return r;
}
inline I16 iadd(I16 a, I16 b) {
  I16 r;
  HOB_LANES r.v[i] = a.v[i] + b.v[i];
  return r;
}
inline V16 vfrom_i32(I16 a) {
  V16 r;
  HOB_LANES r.v[i] = static_cast<float>(a.v[i]);
  return r;
}
// Round to nearest, ties to even.
inline I16 ifrom_f32(V16 a) {
  I16 r;
  HOB_LANES r.v[i] = static_cast<int32_t>(nearbyintf(a.v[i]));
  return r;
}
// x * 2^n for n in [-126, 127].
inline V16 vscale2(V16 x, I16 n) {
  V16 r;
  HOB_LANES {
    const uint32_t bits = static_cast<uint32_t>(n.v[i] + 127) << 23;
    float p;
    memcpy(&p, &bits, 4);
    r.v[i] = x.v[i] * p;
  }
  return r;
}
inline void istore_i8(int8_t* p, I16 a) { HOB_LANES p[i] = static_cast<int8_t>(a.v[i]); }

inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 1023;
  uint32_t bits;
  float f;
  if (exp == 0) {  // zero and subnormal: man * 2^-24, exact
    f = static_cast<float>(man) * 0x1p-24f;
    memcpy(&bits, &f, 4);
    bits |= sign;
  } else {
    bits = exp == 31 ? sign | 0x7f800000 | man << 13 : sign | (exp + 112) << 23 | man << 13;
    if (exp == 31 && man) bits |= 0x400000;  // quiet, as the hardware does
  }
  memcpy(&f, &bits, 4);
  return f;
}
inline uint16_t float_to_half(float f) {
  uint32_t x;
  memcpy(&x, &f, 4);
  const uint32_t sign = x >> 16 & 0x8000, a = x & 0x7fffffff;
  if (a > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (a >> 13 & 0x3ff));
  if (a >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // rounds to infinity
  if (a < 0x38800000) {  // subnormal half: add 2^-1 ulp-aligned constant, the FPU rounds to nearest
                         // even
    float m;
    memcpy(&m, &a, 4);
    m += 0.5f;
    uint32_t mb;
    memcpy(&mb, &m, 4);
    return static_cast<uint16_t>(sign | (mb - 0x3f000000));
  }
  const uint32_t rounded = a - 0x38000000 + 0xfff + (a >> 13 & 1);
  return static_cast<uint16_t>(sign | rounded >> 13);
}
inline V16 vload_f16(const void* p) {
  uint16_t h[16];
  memcpy(h, p, 32);
  V16 r;
  HOB_LANES r.v[i] = half_to_float(h[i]);
  return r;
}
inline void vstore_f16(void* p, V16 a) {
  uint16_t h[16];
  HOB_LANES h[i] = float_to_half(a.v[i]);
  memcpy(p, h, 32);
}
inline V16 vload_bf16(const void* p) {
  uint16_t h[16];
  memcpy(h, p, 32);
  V16 r;
  HOB_LANES {
    const uint32_t bits = static_cast<uint32_t>(h[i]) << 16;
    memcpy(&r.v[i], &bits, 4);
  }
  return r;
}
inline float vreduce_add(V16 a) {
  for (int w = 8; w >= 1; w /= 2)
    for (int i = 0; i < w; i++) a.v[i] += a.v[i + w];
  return a.v[0];
}
inline float vreduce_max(V16 a) {
  for (int w = 8; w >= 1; w /= 2)
    for (int i = 0; i < w; i++) a.v[i] = a.v[i] > a.v[i + w] ? a.v[i] : a.v[i + w];
  return a.v[0];
}
inline int32_t ireduce_add(I16 a) {
  int32_t s = 0;
  HOB_LANES s += a.v[i];
  return s;
}
#define HOB_ROWS for (int i = 0; i < 16; i++)
inline B16 sload(const void* p) {
  B16 r;
  memcpy(r.v, p, 16);
  return r;
}
inline B16 sor(B16 a, B16 b) {
  B16 r;
  HOB_ROWS r.v[i] = a.v[i] | b.v[i];
  return r;
}
template <int kShift, int kMask>
inline B16 sbits(B16 a) {
  B16 r;
  HOB_ROWS r.v[i] = static_cast<uint8_t>(a.v[i] >> kShift & kMask);
  return r;
}
template <int kShift>
inline B16 sleft(B16 a) {
  B16 r;
  HOB_ROWS r.v[i] = static_cast<uint8_t>(a.v[i] << kShift);
  return r;
}
inline B16 ssub(B16 a, int x) {
  B16 r;
  HOB_ROWS r.v[i] = static_cast<uint8_t>(a.v[i] - x);
  return r;
}
// The low or high bytes of 16 little-endian u16.
template <bool kHigh>
inline B16 sload_half(const void* p) {
  B16 r;
  HOB_ROWS r.v[i] = static_cast<const uint8_t*>(p)[2 * i + kHigh];
  return r;
}
// y where x >= limit, else 0.
inline V16 vzero_below(V16 x, V16 limit, V16 y) {
  V16 r;
  HOB_LANES r.v[i] = x.v[i] >= limit.v[i] ? y.v[i] : 0.f;
  return r;
}
// 16 unsigned / signed bytes -> f32.
inline V16 vfrom_u8(B16 a) {
  V16 r;
  HOB_LANES r.v[i] = a.v[i];
  return r;
}
inline V16 vfrom_i8(B16 a) {
  V16 r;
  HOB_LANES r.v[i] = static_cast<int8_t>(a.v[i]);
  return r;
}

#define HOB_BYTES for (int i = 0; i < 64; i++)
inline B64 bload(const void* p) {
  B64 r;
  memcpy(r.v, p, 64);
  return r;
}
inline void bstore(void* p, B64 a) { memcpy(p, a.v, 64); }
inline B64 band(B64 a, int m) {
  B64 r;
  HOB_BYTES r.v[i] = static_cast<uint8_t>(a.v[i] & m);
  return r;
}
inline B64 bor(B64 a, B64 b) {
  B64 r;
  HOB_BYTES r.v[i] = a.v[i] | b.v[i];
  return r;
}
// Bits [shift, shift + width) of every byte.
template <int kShift, int kMask>
inline B64 bbits(B64 a) {
  B64 r;
  HOB_BYTES r.v[i] = static_cast<uint8_t>(a.v[i] >> kShift & kMask);
  return r;
}
// Bits kMask of every byte, moved left by kShift.
template <int kShift, int kMask>
inline B64 bbits_left(B64 a) {
  B64 r;
  HOB_BYTES r.v[i] = static_cast<uint8_t>((a.v[i] & kMask) << kShift);
  return r;
}
inline B64 btable(B64 index, const int8_t table[16]) {
  B64 r;
  HOB_BYTES r.v[i] = static_cast<uint8_t>(table[index.v[i]]);
  return r;
}
// Each row's 4 bytes become kBit-th.. bits of that row's u32 spread to bytes: byte j = bit (kFirst
// + j) of the row's word.
template <int kFirst>
inline B64 bspread(B64 words, int value) {
  B64 r;
  for (int row = 0; row < 16; row++) {
    uint32_t w;
    memcpy(&w, words.v + 4 * row, 4);
    for (int j = 0; j < 4; j++)
      r.v[4 * row + j] =
          static_cast<uint8_t>((w >> (kFirst + j) & 1) * static_cast<uint32_t>(value));
  }
  return r;
}

inline int32_t act_byte(int32_t a4, int j) { return static_cast<int8_t>(a4 >> 8 * j & 255); }
// acc[row] += sum over 4 of unsigned code (<= 127) * activation.
inline I16 dot_unsigned(I16 acc, B64 w, int32_t a4) {
  for (int row = 0; row < 16; row++)
    for (int j = 0; j < 4; j++) acc.v[row] += w.v[4 * row + j] * act_byte(a4, j);
  return acc;
}
// The same for signed codes, prepared by signed_line(); the accumulator starts at signed_start(sum
// of activations).
inline B64 signed_line(B64 w) { return w; }
inline I16 signed_start(int32_t) { return iset1(0); }
inline I16 dot_signed(I16 acc, B64 w, int32_t a4) {
  for (int row = 0; row < 16; row++)
    for (int j = 0; j < 4; j++)
      acc.v[row] += static_cast<int8_t>(w.v[4 * row + j]) * act_byte(a4, j);
  return acc;
}
