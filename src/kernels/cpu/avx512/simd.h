// The vector vocabulary of AVX-512 (F, BW, DQ, VL, VNNI). Included inside an anonymous namespace by
// tu.cc.

using V16 = __m512;
using I16 = __m512i;
using B64 = __m512i;  // 16 rows x 4 consecutive codes

// 2 panels x 4 acts: 8 integer + 8 float accumulators, 2 lines, scales and temporaries: 24 of 32
// registers. Per group of codes 2 lines and 4 broadcasts are loaded for 8 dot products; 1 x 8 would
// need 9 loads, and a core loads one 64-byte register per cycle, as many as it multiplies.
constexpr int kTilePanels = 2;
constexpr int kTileActs = 4;
constexpr int kMaxGemvActs = 4;
// 4 queries x 4 vectors: 16 accumulators, 4 loads and 4 broadcasts per 16 multiply-adds.
constexpr int kAttnQueries = 4;
constexpr int kAttnBlocks = 4;

inline V16 vload(const float* p) { return _mm512_loadu_ps(p); }
inline void vstore(float* p, V16 a) { _mm512_storeu_ps(p, a); }
inline V16 vset1(float x) { return _mm512_set1_ps(x); }
inline V16 vadd(V16 a, V16 b) { return _mm512_add_ps(a, b); }
inline V16 vsub(V16 a, V16 b) { return _mm512_sub_ps(a, b); }
inline V16 vmul(V16 a, V16 b) { return _mm512_mul_ps(a, b); }
inline V16 vdiv(V16 a, V16 b) { return _mm512_div_ps(a, b); }
inline V16 vfma(V16 a, V16 b, V16 c) { return _mm512_fmadd_ps(a, b, c); }
inline V16 vmax(V16 a, V16 b) { return _mm512_max_ps(a, b); }
inline V16 vmin(V16 a, V16 b) { return _mm512_min_ps(a, b); }
inline V16 vabs(V16 a) { return _mm512_abs_ps(a); }
inline I16 iset1(int32_t x) { return _mm512_set1_epi32(x); }
inline I16 iadd(I16 a, I16 b) { return _mm512_add_epi32(a, b); }
inline V16 vfrom_i32(I16 a) { return _mm512_cvtepi32_ps(a); }
inline I16 ifrom_f32(V16 a) { return _mm512_cvtps_epi32(a); }
inline V16 vscale2(V16 x, I16 n) {
  return _mm512_mul_ps(
      x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23)));
}
inline void istore_i8(int8_t* p, I16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}
inline V16 vload_f16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
inline void vstore_f16(void* p, V16 a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline V16 vload_bf16(const void* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p))), 16));
}
inline __m256 low8(V16 a) { return _mm512_castps512_ps256(a); }
inline __m256 high8(V16 a) { return _mm512_extractf32x8_ps(a, 1); }
inline float vreduce_add(V16 a) {
  const __m256 b = _mm256_add_ps(low8(a), high8(a));
  const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
inline float vreduce_max(V16 a) {
  const __m256 b = _mm256_max_ps(low8(a), high8(a));
  const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}
inline int32_t ireduce_add(I16 a) {
  const __m256i b = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
  __m128i c = _mm_add_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  c = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
}
inline V16 vzero_below(V16 x, V16 limit, V16 y) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), y);
}
inline V16 vfrom_u8(B16 a) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(a.v)); }
inline V16 vfrom_i8(B16 a) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(a.v)); }

inline B64 bload(const void* p) { return _mm512_loadu_si512(p); }
inline void bstore(void* p, B64 a) { _mm512_storeu_si512(p, a); }
inline B64 band(B64 a, int m) {
  return _mm512_and_si512(a, _mm512_set1_epi8(static_cast<char>(m)));
}
inline B64 bor(B64 a, B64 b) { return _mm512_or_si512(a, b); }
template <int kShift, int kMask>
inline B64 bbits(B64 a) {
  if constexpr (kShift == 0) return band(a, kMask);
  return band(_mm512_srli_epi16(a, kShift), kMask);
}
template <int kShift, int kMask>
inline B64 bbits_left(B64 a) {
  return _mm512_slli_epi16(band(a, kMask), kShift);
}
inline B64 btable(B64 index, const int8_t table[16]) {
  return _mm512_shuffle_epi8(
      _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), index);
}
template <int kFirst>
inline B64 bspread(B64 words, int value) {
  // Every byte of a row sees the byte that holds its bit (kFirst is a multiple of 4: bits
  // kFirst..kFirst+3 share one).
  const __m512i row_byte = _mm512_add_epi32(
      _mm512_set1_epi32((kFirst / 8) * 0x01010101),
      _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c)));
  const __m512i bit = _mm512_set1_epi32(static_cast<int>(0x08040201u << kFirst % 8));
  return _mm512_maskz_set1_epi8(_mm512_test_epi8_mask(_mm512_shuffle_epi8(words, row_byte), bit),
                                static_cast<char>(value));
}

inline I16 dot_unsigned(I16 acc, B64 w, int32_t a4) {
  return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(a4));
}
// vpdpbusd wants an unsigned code: add 128 to it (flip the top bit) and start 128 * sum(a) lower.
// Exact.
inline B64 signed_line(B64 w) {
  return _mm512_xor_si512(w, _mm512_set1_epi8(static_cast<char>(0x80)));
}
inline I16 signed_start(int32_t act_sum) { return _mm512_set1_epi32(-128 * act_sum); }
inline I16 dot_signed(I16 acc, B64 w, int32_t a4) { return dot_unsigned(acc, w, a4); }
