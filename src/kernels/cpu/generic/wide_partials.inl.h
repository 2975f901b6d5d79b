// Partial sums of a tile where the ISA adds 4 products into 32 bits at once: a partial sum is the
// sum. (AVX2, which cannot, has its own in simd.h.) Included inside an anonymous namespace by
// tu.cc.
constexpr int partial_run(int, bool, int n_groups) { return n_groups; }
using Partial = I16;
inline Partial partial_start(I16 sum) { return sum; }
inline I16 partial_total(I16, Partial part) { return part; }
template <bool kSigned>
inline Partial partial_dot(Partial part, B64 w, int32_t a4) {
  if constexpr (kSigned) return dot_signed(part, w, a4);
  return dot_unsigned(part, w, a4);
}
