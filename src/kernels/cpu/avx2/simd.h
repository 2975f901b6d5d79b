// The vector vocabulary of AVX2 + FMA + F16C: 16 lanes are two registers. Included inside an
// anonymous namespace.

struct V16 {
  __m256 a, b;
};
struct I16 {
  __m256i a, b;
};
struct B64 {
  __m256i a, b;
};  // 16 rows x 4 consecutive codes

// 1 panel x 3 acts: 6 integer + 6 float accumulators, line (2), activation and product fill the 16
// registers.
constexpr int kTilePanels = 1;
constexpr int kTileActs = 3;
constexpr int kMaxGemvActs = 2;
// 2 queries x 2 vectors of two registers: 8 accumulators, 4 loaded, 1 broadcast.
constexpr int kAttnQueries = 2;
constexpr int kAttnBlocks = 2;

inline V16 vload(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void vstore(float* p, V16 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
inline V16 vset1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline V16 vadd(V16 x, V16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline V16 vsub(V16 x, V16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline V16 vmul(V16 x, V16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline V16 vdiv(V16 x, V16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline V16 vfma(V16 x, V16 y, V16 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline V16 vmax(V16 x, V16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline V16 vmin(V16 x, V16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline V16 vabs(V16 x) {
  const __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m)};
}
inline I16 iset1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline I16 iadd(I16 x, I16 y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline V16 vfrom_i32(I16 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline I16 ifrom_f32(V16 x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline __m256 power2(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
inline V16 vscale2(V16 x, I16 n) {
  return {_mm256_mul_ps(x.a, power2(n.a)), _mm256_mul_ps(x.b, power2(n.b))};
}
inline void istore_i8(int8_t* p, I16 x) {
  const __m256i w =
      _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);  // 16 x i16 in order
  const __m128i r = _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), r);
}
inline V16 vload_f16(const void* p) {
  const __m128i* h = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
inline void vstore_f16(void* p, V16 x) {
  __m128i* h = static_cast<__m128i*>(p);
  _mm_storeu_si128(h, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128(h + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline __m256 bf16_half(__m128i h) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
inline V16 vload_bf16(const void* p) {
  const __m128i* h = static_cast<const __m128i*>(p);
  return {bf16_half(_mm_loadu_si128(h)), bf16_half(_mm_loadu_si128(h + 1))};
}
inline float vreduce_add(V16 x) {
  const __m256 b = _mm256_add_ps(x.a, x.b);
  const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
inline float vreduce_max(V16 x) {
  const __m256 b = _mm256_max_ps(x.a, x.b);
  const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}
inline int32_t ireduce_add(I16 x) {
  const __m256i b = _mm256_add_epi32(x.a, x.b);
  __m128i c = _mm_add_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  c = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
}
inline V16 vzero_below(V16 x, V16 limit, V16 y) {
  return {_mm256_and_ps(_mm256_cmp_ps(x.a, limit.a, _CMP_GE_OQ), y.a),
          _mm256_and_ps(_mm256_cmp_ps(x.b, limit.b, _CMP_GE_OQ), y.b)};
}
inline V16 vfrom_u8(B16 x) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x.v)),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(x.v, 8)))};
}
inline V16 vfrom_i8(B16 x) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x.v)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x.v, 8)))};
}

inline B64 bload(const void* p) {
  const __m256i* q = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
inline void bstore(void* p, B64 x) {
  __m256i* q = static_cast<__m256i*>(p);
  _mm256_storeu_si256(q, x.a);
  _mm256_storeu_si256(q + 1, x.b);
}
inline B64 band(B64 x, int m) {
  const __m256i v = _mm256_set1_epi8(static_cast<char>(m));
  return {_mm256_and_si256(x.a, v), _mm256_and_si256(x.b, v)};
}
inline B64 bor(B64 x, B64 y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
template <int kShift, int kMask>
inline B64 bbits(B64 x) {
  if constexpr (kShift == 0) return band(x, kMask);
  return band({_mm256_srli_epi16(x.a, kShift), _mm256_srli_epi16(x.b, kShift)}, kMask);
}
template <int kShift, int kMask>
inline B64 bbits_left(B64 x) {
  const B64 m = band(x, kMask);
  return {_mm256_slli_epi16(m.a, kShift), _mm256_slli_epi16(m.b, kShift)};
}
inline B64 btable(B64 index, const int8_t table[16]) {
  const __m256i t =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm256_shuffle_epi8(t, index.a), _mm256_shuffle_epi8(t, index.b)};
}
template <int kFirst>
inline __m256i spread_half(__m256i words, int value) {
  const __m256i row_byte = _mm256_add_epi32(
      _mm256_set1_epi32((kFirst / 8) * 0x01010101),
      _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c)));
  const __m256i bit = _mm256_set1_epi32(static_cast<int>(0x08040201u << kFirst % 8));
  const __m256i hit =
      _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(words, row_byte), bit), bit);
  return _mm256_and_si256(hit, _mm256_set1_epi8(static_cast<char>(value)));
}
template <int kFirst>
inline B64 bspread(B64 words, int value) {
  return {spread_half<kFirst>(words.a, value), spread_half<kFirst>(words.b, value)};
}

// maddubs adds two products in 16 bits with saturation: codes <= 127 give at most 2 * 127 * 127 =
// 32258. Exact.
inline __m256i dot4(__m256i acc, __m256i w, __m256i a) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1)));
}
inline I16 dot_unsigned(I16 acc, B64 w, int32_t a4) {
  const __m256i a = _mm256_set1_epi32(a4);
  return {dot4(acc.a, w.a, a), dot4(acc.b, w.b, a)};
}
// Signed codes: |w| as the unsigned factor, the sign moved to the activation: 2 * 128 * 127 =
// 32512. Exact.
inline B64 signed_line(B64 w) { return w; }
inline I16 signed_start(int32_t) { return iset1(0); }
inline I16 dot_signed(I16 acc, B64 w, int32_t a4) {
  const __m256i a = _mm256_set1_epi32(a4);
  return {dot4(acc.a, _mm256_abs_epi8(w.a), _mm256_sign_epi8(a, w.a)),
          dot4(acc.b, _mm256_abs_epi8(w.b), _mm256_sign_epi8(a, w.b))};
}

// Sums of a tile: maddubs gives pairs of products in 16 bits; as many of them are added there as
// cannot overflow (a pair is at most 2 * code * 127), then one madd widens them all.
constexpr int partial_run(int max_code, bool is_signed, int n_groups) {
  const int fits = is_signed ? 1 : 32767 / (2 * 127 * max_code);
  int run = n_groups;
  while (run > fits) run /= 2;
  return run;
}
struct Partial {
  __m256i a, b;
};
inline Partial partial_start(I16) { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
// g++ 12 would hold back all additions of an unrolled run and spill the products: the empty asm
// makes each sum exist before the next product.
inline __m256i add_now(__m256i sum, __m256i x) {
  sum = _mm256_add_epi16(sum, x);
  asm("" : "+x"(sum));
  return sum;
}
template <bool kSigned>
inline Partial partial_dot(Partial part, B64 w, int32_t a4) {
  const __m256i a = _mm256_set1_epi32(a4);
  if constexpr (kSigned)
    return {add_now(part.a, _mm256_maddubs_epi16(_mm256_abs_epi8(w.a), _mm256_sign_epi8(a, w.a))),
            add_now(part.b, _mm256_maddubs_epi16(_mm256_abs_epi8(w.b), _mm256_sign_epi8(a, w.b)))};
  return {add_now(part.a, _mm256_maddubs_epi16(w.a, a)),
          add_now(part.b, _mm256_maddubs_epi16(w.b, a))};
}
inline I16 partial_total(I16 sum, Partial part) {
  const __m256i one = _mm256_set1_epi16(1);
  return {_mm256_add_epi32(sum.a, _mm256_madd_epi16(part.a, one)),
          _mm256_add_epi32(sum.b, _mm256_madd_epi16(part.b, one))};
}
