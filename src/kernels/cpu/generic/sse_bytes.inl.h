// B16, one byte per row, for the ISAs of x86. Included inside an anonymous namespace by tu.cc.

struct B16 {
  __m128i v;
};  // one byte per row

inline B16 sload(const void* p) { return {_mm_loadu_si128(static_cast<const __m128i*>(p))}; }
inline B16 sor(B16 a, B16 b) { return {_mm_or_si128(a.v, b.v)}; }
template <int kShift, int kMask>
inline B16 sbits(B16 a) {
  return {_mm_and_si128(_mm_srli_epi16(a.v, kShift), _mm_set1_epi8(kMask))};
}
template <int kShift>
inline B16 sleft(B16 a) {
  return {_mm_and_si128(_mm_slli_epi16(a.v, kShift),
                        _mm_set1_epi8(static_cast<char>(0xff << kShift & 0xff)))};
}
inline B16 ssub(B16 a, int x) { return {_mm_sub_epi8(a.v, _mm_set1_epi8(static_cast<char>(x)))}; }
template <bool kHigh>
inline B16 sload_half(const void* p) {
  __m128i a = _mm_loadu_si128(static_cast<const __m128i*>(p));
  __m128i b = _mm_loadu_si128(static_cast<const __m128i*>(p) + 1);
  const __m128i low = _mm_set1_epi16(255);
  a = kHigh ? _mm_srli_epi16(a, 8) : _mm_and_si128(a, low);
  b = kHigh ? _mm_srli_epi16(b, 8) : _mm_and_si128(b, low);
  return {_mm_packus_epi16(a, b)};
}
