// The vector vocabulary of NEON with the dot product of Armv8.2 (Cortex-A76 and later; no i8mm): 16
// lanes are four registers. Included inside an anonymous namespace by tu.cc.

struct V16 {
  float32x4_t a, b, c, d;
};
struct I16 {
  int32x4_t a, b, c, d;
};
struct B16 {
  uint8x16_t v;
};  // one byte per row
struct B64 {
  uint8x16_t a, b, c, d;
};  // 16 rows x 4 consecutive codes

// 2 acts x (4 integer + 4 float) accumulators + line (4) + scale (4) + minimum (4) = 28 of 32. Four
// acts would need 44: g++ 12 then spills 38 loads per 128 sdot (Q8_0) and gains nothing, since sdot
// is bound by the vector pipes (8 on 2 pipes = 4 cycles; their 4 line and 2 activation loads take 2
// on 3 pipes), and 8 accumulators cover its latency.
constexpr int kTilePanels = 1;
constexpr int kTileActs = 2;
// 2 acts x (2 sub-blocks x 4 integer + 4 float) + line (4) + its two halves (8): 36, a few float
// ones spilled per sub-block; the unpacking, two thirds of the work of one act, is done once.
constexpr int kMaxGemvActs = 2;
// 2 queries x 2 vectors of four registers: 16 accumulators, 8 loaded, 4 broadcast.
constexpr int kAttnQueries = 2;
constexpr int kAttnBlocks = 2;

inline V16 vload(const float* p) {
  return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
inline void vstore(float* p, V16 x) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
  vst1q_f32(p + 8, x.c);
  vst1q_f32(p + 12, x.d);
}
inline V16 vset1(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return {v, v, v, v};
}
inline V16 vadd(V16 x, V16 y) {
  return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b), vaddq_f32(x.c, y.c), vaddq_f32(x.d, y.d)};
}
inline V16 vsub(V16 x, V16 y) {
  return {vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b), vsubq_f32(x.c, y.c), vsubq_f32(x.d, y.d)};
}
inline V16 vmul(V16 x, V16 y) {
  return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)};
}
inline V16 vdiv(V16 x, V16 y) {
  return {vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b), vdivq_f32(x.c, y.c), vdivq_f32(x.d, y.d)};
}
inline V16 vfma(V16 x, V16 y, V16 z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
          vfmaq_f32(z.d, x.d, y.d)};
}
// Compare and select: fmax would give +0 for (+0, -0) and NaN for (NaN, y), x86 the second operand.
inline float32x4_t larger(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
inline float32x4_t smaller(float32x4_t x, float32x4_t y) {
  return vbslq_f32(vcltq_f32(x, y), x, y);
}
inline V16 vmax(V16 x, V16 y) {
  return {larger(x.a, y.a), larger(x.b, y.b), larger(x.c, y.c), larger(x.d, y.d)};
}
inline V16 vmin(V16 x, V16 y) {
  return {smaller(x.a, y.a), smaller(x.b, y.b), smaller(x.c, y.c), smaller(x.d, y.d)};
}
inline V16 vabs(V16 x) { return {vabsq_f32(x.a), vabsq_f32(x.b), vabsq_f32(x.c), vabsq_f32(x.d)}; }
inline I16 iset1(int32_t x) {
  const int32x4_t v = vdupq_n_s32(x);
  return {v, v, v, v};
}
inline I16 iadd(I16 x, I16 y) {
  return {vaddq_s32(x.a, y.a), vaddq_s32(x.b, y.b), vaddq_s32(x.c, y.c), vaddq_s32(x.d, y.d)};
}
inline V16 vfrom_i32(I16 x) {
  return {vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b), vcvtq_f32_s32(x.c), vcvtq_f32_s32(x.d)};
}
inline I16 ifrom_f32(V16 x) {
  return {vcvtnq_s32_f32(x.a), vcvtnq_s32_f32(x.b), vcvtnq_s32_f32(x.c), vcvtnq_s32_f32(x.d)};
}
inline float32x4_t times_power2(float32x4_t x, int32x4_t n) {
  return vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23)));
}
inline V16 vscale2(V16 x, I16 n) {
  return {times_power2(x.a, n.a), times_power2(x.b, n.b), times_power2(x.c, n.c),
          times_power2(x.d, n.d)};
}
inline void istore_i8(int8_t* p, I16 x) {
  const int16x8_t low = vcombine_s16(vmovn_s32(x.a), vmovn_s32(x.b));
  const int16x8_t high = vcombine_s16(vmovn_s32(x.c), vmovn_s32(x.d));
  vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}
// Halves go through bytes: `p` need not be aligned for a 16-bit type.
inline uint16x8_t load_halves(const void* p) {
  return vreinterpretq_u16_u8(vld1q_u8(static_cast<const uint8_t*>(p)));
}
inline V16 vload_f16(const void* p) {
  const float16x8_t low = vreinterpretq_f16_u16(load_halves(p));
  const float16x8_t high = vreinterpretq_f16_u16(load_halves(static_cast<const uint8_t*>(p) + 16));
  return {vcvt_f32_f16(vget_low_f16(low)), vcvt_high_f32_f16(low), vcvt_f32_f16(vget_low_f16(high)),
          vcvt_high_f32_f16(high)};
}
inline void vstore_f16(void* p, V16 x) {  // the default rounding of FPCR: to nearest even
  uint8_t* h = static_cast<uint8_t*>(p);
  vst1q_u8(h, vreinterpretq_u8_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b)));
  vst1q_u8(h + 16, vreinterpretq_u8_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.c), x.d)));
}
inline V16 vload_bf16(const void* p) {
  const uint16x8_t low = load_halves(p), high = load_halves(static_cast<const uint8_t*>(p) + 16);
  return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(low), 16)),
          vreinterpretq_f32_u32(vshll_high_n_u16(low, 16)),
          vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(high), 16)),
          vreinterpretq_f32_u32(vshll_high_n_u16(high, 16))};
}
inline float vreduce_add(V16 x) {
  const float32x4_t quad = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
  const float32x2_t pair = vadd_f32(vget_low_f32(quad), vget_high_f32(quad));
  return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
}
inline float vreduce_max(V16 x) {
  const float32x4_t quad = larger(larger(x.a, x.c), larger(x.b, x.d));
  const float32x4_t pair = larger(quad, vextq_f32(quad, quad, 2));
  return vgetq_lane_f32(larger(pair, vextq_f32(pair, pair, 1)), 0);
}
inline int32_t ireduce_add(I16 x) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(x.a, x.b), vaddq_s32(x.c, x.d)));
}

// Bits [shift, shift + width) of every byte. A byte shift leaves no neighbour's bits behind, so
// that a mask that keeps all that is left costs nothing.
template <int kShift, int kMask>
inline uint8x16_t bits_of(uint8x16_t x) {
  if constexpr (kShift > 0) x = vshrq_n_u8(x, kShift);
  if constexpr ((255 >> kShift & ~kMask) != 0) x = vandq_u8(x, vdupq_n_u8(kMask));
  return x;
}
inline B16 sload(const void* p) { return {vld1q_u8(static_cast<const uint8_t*>(p))}; }
inline B16 sor(B16 x, B16 y) { return {vorrq_u8(x.v, y.v)}; }
template <int kShift, int kMask>
inline B16 sbits(B16 x) {
  return {bits_of<kShift, kMask>(x.v)};
}
template <int kShift>
inline B16 sleft(B16 x) {
  return {vshlq_n_u8(x.v, kShift)};
}
inline B16 ssub(B16 x, int y) { return {vsubq_u8(x.v, vdupq_n_u8(static_cast<uint8_t>(y)))}; }
template <bool kHigh>
inline B16 sload_half(const void* p) {
  const uint8_t* q = static_cast<const uint8_t*>(p);
  const uint8x16_t low = vld1q_u8(q), high = vld1q_u8(q + 16);
  return {kHigh ? vuzp2q_u8(low, high) : vuzp1q_u8(low, high)};
}
inline float32x4_t zero_below(float32x4_t x, float32x4_t limit, float32x4_t y) {
  return vreinterpretq_f32_u32(vandq_u32(vcgeq_f32(x, limit), vreinterpretq_u32_f32(y)));
}
inline V16 vzero_below(V16 x, V16 limit, V16 y) {
  return {zero_below(x.a, limit.a, y.a), zero_below(x.b, limit.b, y.b),
          zero_below(x.c, limit.c, y.c), zero_below(x.d, limit.d, y.d)};
}
inline V16 vfrom_u8(B16 x) {
  const uint16x8_t low = vmovl_u8(vget_low_u8(x.v)), high = vmovl_high_u8(x.v);
  return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_high_u16(low)),
          vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_high_u16(high))};
}
inline V16 vfrom_i8(B16 x) {
  const int8x16_t s = vreinterpretq_s8_u8(x.v);
  const int16x8_t low = vmovl_s8(vget_low_s8(s)), high = vmovl_high_s8(s);
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
          vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))};
}

inline B64 bload(const void* p) {
  const uint8_t* q = static_cast<const uint8_t*>(p);
  return {vld1q_u8(q), vld1q_u8(q + 16), vld1q_u8(q + 32), vld1q_u8(q + 48)};
}
inline void bstore(void* p, B64 x) {
  uint8_t* q = static_cast<uint8_t*>(p);
  vst1q_u8(q, x.a);
  vst1q_u8(q + 16, x.b);
  vst1q_u8(q + 32, x.c);
  vst1q_u8(q + 48, x.d);
}
inline B64 band(B64 x, int m) {
  const uint8x16_t v = vdupq_n_u8(static_cast<uint8_t>(m));
  return {vandq_u8(x.a, v), vandq_u8(x.b, v), vandq_u8(x.c, v), vandq_u8(x.d, v)};
}
inline B64 bor(B64 x, B64 y) {
  return {vorrq_u8(x.a, y.a), vorrq_u8(x.b, y.b), vorrq_u8(x.c, y.c), vorrq_u8(x.d, y.d)};
}
template <int kShift, int kMask>
inline B64 bbits(B64 x) {
  return {bits_of<kShift, kMask>(x.a), bits_of<kShift, kMask>(x.b), bits_of<kShift, kMask>(x.c),
          bits_of<kShift, kMask>(x.d)};
}
template <int kShift, int kMask>
inline B64 bbits_left(B64 x) {
  const B64 m = band(x, kMask);
  return {vshlq_n_u8(m.a, kShift), vshlq_n_u8(m.b, kShift), vshlq_n_u8(m.c, kShift),
          vshlq_n_u8(m.d, kShift)};
}
inline B64 btable(B64 index, const int8_t table[16]) {
  const uint8x16_t t = vreinterpretq_u8_s8(vld1q_s8(table));
  return {vqtbl1q_u8(t, index.a), vqtbl1q_u8(t, index.b), vqtbl1q_u8(t, index.c),
          vqtbl1q_u8(t, index.d)};
}
template <int kFirst>
inline uint8x16_t spread_quad(uint8x16_t words, int value) {
  // Every byte of a row sees the byte that holds its bit (kFirst is a multiple of 4: bits
  // kFirst..kFirst+3 share one).
  constexpr uint8_t k = kFirst / 8;
  const uint8x16_t row_byte = {k,     k,     k,     k,     k + 4,  k + 4,  k + 4,  k + 4,
                               k + 8, k + 8, k + 8, k + 8, k + 12, k + 12, k + 12, k + 12};
  const uint8x16_t bit = vreinterpretq_u8_u32(vdupq_n_u32(0x08040201u << kFirst % 8));
  return vandq_u8(vtstq_u8(vqtbl1q_u8(words, row_byte), bit),
                  vdupq_n_u8(static_cast<uint8_t>(value)));
}
template <int kFirst>
inline B64 bspread(B64 words, int value) {
  return {spread_quad<kFirst>(words.a, value), spread_quad<kFirst>(words.b, value),
          spread_quad<kFirst>(words.c, value), spread_quad<kFirst>(words.d, value)};
}

// sdot sums four signed products straight into 32 bits. Unsigned codes are <= 127: the same bytes.
// The form by element takes the activations from lane 0, so that a plain 4-byte load feeds it; a
// broadcast would cost one of the two vector pipes a fifth of its time (one for each 4 sdot).
inline int32x4_t dot4(int32x4_t acc, uint8x16_t w, int8x8_t a) {
  return vdotq_lane_s32(acc, vreinterpretq_s8_u8(w), a, 0);
}
inline I16 dot_signed(I16 acc, B64 w, int32_t a4) {
  const int8x8_t a = vcreate_s8(static_cast<uint32_t>(a4));
  return {dot4(acc.a, w.a, a), dot4(acc.b, w.b, a), dot4(acc.c, w.c, a), dot4(acc.d, w.d, a)};
}
inline I16 dot_unsigned(I16 acc, B64 w, int32_t a4) { return dot_signed(acc, w, a4); }
inline B64 signed_line(B64 w) { return w; }
inline I16 signed_start(int32_t) { return iset1(0); }
