// What the products of this ISA could reach at most: their own dot-product instructions, with
// nothing to unpack or scale. `hob bench` and bench_kernels measure against it. Included inside an
// anonymous namespace by table.inl.h.

// Independent sums, so that the latency of an addition is hidden (AVX-512: 4 cycles x 2 ports) and
// sums, activations and temporaries still fit the registers: 12 + 12 of 32 with AVX-512 (one
// register per sum), 3 x 2 + 3 of 16 with AVX2 (two), 3 x 4 + 3 of 32 with NEON (four).
constexpr int kPeakSums = kTilePanels * kTileActs >= 8 ? 12 : 3;

// As a tile of a 4-bit type: runs of partial sums over the 8 lines of a sub-block. Each sum has its
// own activation, or the compiler would compute one product for all.
uint64_t peak_dot(int n_rounds, int32_t* result) {
  constexpr int kGroups = 8, kRun = partial_run(15, false, kGroups);
  alignas(64) uint8_t lines[64 * kGroups];
  for (int i = 0; i < 64 * kGroups; i++) lines[i] = static_cast<uint8_t>(i % 16);
  I16 sums[kPeakSums];
  HOB_UNROLL for (int s = 0; s < kPeakSums; s++) sums[s] = iset1(0);
  for (int round = 0; round < n_rounds; round++) {
    // The lines may have changed, as far as the compiler knows: it multiplies again in every round.
    asm volatile("" : : "r"(lines) : "memory");
    HOB_UNROLL for (int run = 0; run < kGroups; run += kRun) {
      Partial part[kPeakSums];
      HOB_UNROLL for (int s = 0; s < kPeakSums; s++) part[s] = partial_start(sums[s]);
      HOB_UNROLL for (int g = run; g < run + kRun; g++) {
        const B64 codes = bload(lines + 64 * g);
        HOB_UNROLL for (int s = 0; s < kPeakSums; s++) part[s] =
            partial_dot<false>(part[s], codes, 0x01010101 * (s + 1));
      }
      HOB_UNROLL for (int s = 0; s < kPeakSums; s++) sums[s] = partial_total(sums[s], part[s]);
    }
  }
  I16 total = sums[0];
  HOB_UNROLL for (int s = 1; s < kPeakSums; s++) total = iadd(total, sums[s]);
  *result = ireduce_add(total);
  return uint64_t{64} * kGroups * kPeakSums * static_cast<uint64_t>(n_rounds);
}

// The same for float weights: one fused multiply-add per lane. Two ports x 4 cycles want 8 chains:
// with AVX2, two to a sum, four sums.
constexpr int kPeakFmaSums = kPeakSums > 4 ? kPeakSums : 4;
uint64_t peak_fma(int n_rounds, float* result) {
  alignas(64) float factors[16];
  for (int i = 0; i < 16; i++) factors[i] = 0.5f;
  V16 sums[kPeakFmaSums];
  HOB_UNROLL for (int s = 0; s < kPeakFmaSums; s++) sums[s] = vset1(static_cast<float>(s));
  const V16 one = vset1(1.f);
  for (int round = 0; round < n_rounds; round++) {
    asm volatile("" : : "r"(factors) : "memory");
    const V16 factor = vload(factors);
    HOB_UNROLL for (int s = 0; s < kPeakFmaSums; s++) sums[s] = vfma(sums[s], factor, one);
  }
  V16 total = sums[0];
  HOB_UNROLL for (int s = 1; s < kPeakFmaSums; s++) total = vadd(total, sums[s]);
  *result = vreduce_add(total);
  return uint64_t{16} * kPeakFmaSums * static_cast<uint64_t>(n_rounds);
}
