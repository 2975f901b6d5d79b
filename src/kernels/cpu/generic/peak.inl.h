// What the products of this ISA could reach at most: their own dot-product instruction on
// registers, with nothing to load, unpack or scale. `hob bench` and bench_kernels measure against
// it. Included inside an anonymous namespace by table.inl.h.

// Independent sums, so that the latency of an addition is hidden (AVX-512: 4 cycles x 2 ports) and
// sums, activations and temporaries still fit the registers: 12 + 12 of 32 with AVX-512 (one
// register per sum), 4 x 2 of 16 with AVX2 (two), 4 x 4 of 32 with NEON (four).
constexpr int kPeakSums = kTileActs >= 8 ? 12 : 4;

// Each sum has its own activation: with a common one the compiler would compute one product for
// all.
uint64_t peak_dot(int n_rounds, int32_t* result) {
  alignas(64) uint8_t line[64];
  int32_t acts[kPeakSums];
  for (int i = 0; i < 64; i++) line[i] = static_cast<uint8_t>(i);
  for (int s = 0; s < kPeakSums; s++) acts[s] = 0x01010101 * (s + 1);
  I16 sums[kPeakSums];
  HOB_UNROLL for (int s = 0; s < kPeakSums; s++) sums[s] = iset1(0);
  for (int round = 0; round < n_rounds; round++) {
    // The line may have changed, as far as the compiler knows: it must multiply again in every
    // round.
    asm volatile("" : : "r"(line) : "memory");
    const B64 codes = bload(line);
    HOB_UNROLL for (int s = 0; s < kPeakSums; s++) sums[s] = dot_unsigned(sums[s], codes, acts[s]);
  }
  I16 total = sums[0];
  HOB_UNROLL for (int s = 1; s < kPeakSums; s++) total = iadd(total, sums[s]);
  *result = ireduce_add(total);
  return uint64_t{64} * kPeakSums * static_cast<uint64_t>(n_rounds);
}

// The same for float weights: one fused multiply-add per lane.
uint64_t peak_fma(int n_rounds, float* result) {
  alignas(64) float factors[16];
  for (int i = 0; i < 16; i++) factors[i] = 0.5f;
  V16 sums[kPeakSums];
  HOB_UNROLL for (int s = 0; s < kPeakSums; s++) sums[s] = vset1(static_cast<float>(s));
  const V16 one = vset1(1.f);
  for (int round = 0; round < n_rounds; round++) {
    asm volatile("" : : "r"(factors) : "memory");
    const V16 factor = vload(factors);
    HOB_UNROLL for (int s = 0; s < kPeakSums; s++) sums[s] = vfma(sums[s], factor, one);
  }
  V16 total = sums[0];
  HOB_UNROLL for (int s = 1; s < kPeakSums; s++) total = vadd(total, sums[s]);
  *result = vreduce_add(total);
  return uint64_t{16} * kPeakSums * static_cast<uint64_t>(n_rounds);
}
