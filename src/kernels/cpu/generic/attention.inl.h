// Attention of the query heads that share one KV head, over fixed tiles of 64 positions counted
// from 0 (canonical: the order of sums depends on positions alone). Online softmax: Milakov &
// Gimelshein 2018. Included inside an anonymous namespace by tu.cc.

constexpr int kAttnTile = 64;

template <class L>
inline V16 load_upto(const std::byte* p, int n) {
  return n >= 16 ? L::load(p) : load_tail<L>(p, n);
}
inline V16 load_upto_f32(const float* p, int n) {
  return load_upto<LoadF32>(reinterpret_cast<const std::byte*>(p), n);
}

template <class L>
inline const std::byte* kv_row(const AttnKernelArgs& a, const std::byte* base, int d,
                               int position) {
  const int slot = a.slots[position];
  const size_t block = static_cast<size_t>(slot / a.block_tokens),
               in_block = static_cast<size_t>(slot % a.block_tokens);
  const size_t tokens = static_cast<size_t>(a.block_tokens);
  return base + (block * static_cast<size_t>(a.n_kv_heads) * tokens + in_block) *
                    static_cast<size_t>(d) * L::kBytes;
}

template <class L, int G>
inline void tile_scores(const AttnKernelArgs& a, const float* q, int p0, int p1,
                        float (*scores)[kAttnTile], int t0) {
  for (int p = p0; p < p1; p++) {
    const std::byte* k = kv_row<L>(a, a.k, a.d_k, p);
    V16 acc[G];
    HOB_UNROLL for (int g = 0; g < G; g++) acc[g] = vset1(0.f);
    for (int c = 0; c < a.d_k; c += 16) {
      const V16 kv = load_upto<L>(k + static_cast<size_t>(c) * L::kBytes, a.d_k - c);
      HOB_UNROLL for (int g = 0; g < G; g++) acc[g] =
          vfma(load_upto_f32(q + g * a.d_k + c, a.d_k - c), kv, acc[g]);
    }
    HOB_UNROLL for (int g = 0; g < G; g++) scores[g][p - t0] = vreduce_add(acc[g]) * a.scale;
  }
}

template <class L, int G>
inline void tile_values(const AttnKernelArgs& a, float* out, int p0, int p1,
                        float (*probs)[kAttnTile], int t0) {
  for (int c = 0; c < a.d_v; c += 16) {
    const int n = a.d_v - c;
    V16 acc[G];
    HOB_UNROLL for (int g = 0; g < G; g++) acc[g] = load_upto_f32(out + g * a.d_v + c, n);
    for (int p = p0; p < p1; p++) {
      const V16 v =
          load_upto<L>(kv_row<L>(a, a.v, a.d_v, p) + static_cast<size_t>(c) * L::kBytes, n);
      HOB_UNROLL for (int g = 0; g < G; g++) acc[g] = vfma(vset1(probs[g][p - t0]), v, acc[g]);
    }
    HOB_UNROLL for (int g = 0; g < G; g++) {
      if (n >= 16)
        vstore(out + g * a.d_v + c, acc[g]);
      else
        store_tail(out + g * a.d_v + c, acc[g], n);
    }
  }
}

inline float exp_scalar(float x) {
  alignas(64) float e[16];
  vstore(e, vexp(vset1(x)));
  return e[0];
}

// Scores of one head's tile -> probabilities relative to the running maximum. Returns the factor
// for what came before.
inline float tile_softmax(float* scores, int n_before, int n_end, float* largest, float* total) {
  float m = *largest;
  for (int j = n_before; j < n_end; j++) m = scores[j] > m ? scores[j] : m;
  const float correction = exp_scalar(*largest - m);
  V16 sum = vset1(0.f);
  for (int j = 0; j < kAttnTile; j += 16) {
    const V16 e =
        vexp(vsub(vload(scores + j), vset1(m)));  // positions outside hold -inf: exactly 0
    vstore(scores + j, e);
    sum = vadd(sum, e);
  }
  *largest = m;
  *total = fmaf(*total, correction, vreduce_add(sum));
  return correction;
}

template <class L, int G>
inline void attend(const AttnKernelArgs& a, const float* q, float* out) {
  float largest[G], total[G];
  for (int g = 0; g < G; g++) {
    largest[g] = -INFINITY;
    total[g] = 0.f;
  }
  for (int i = 0; i < G * a.d_v; i++) out[i] = 0.f;
  for (int t0 = a.first / kAttnTile * kAttnTile; t0 < a.n_visible; t0 += kAttnTile) {
    const int p0 = a.first > t0 ? a.first : t0,
              p1 = a.n_visible < t0 + kAttnTile ? a.n_visible : t0 + kAttnTile;
    alignas(64) float scores[G][kAttnTile];
    for (int g = 0; g < G; g++)
      for (int j = 0; j < kAttnTile; j++) scores[g][j] = -INFINITY;
    tile_scores<L, G>(a, q, p0, p1, scores, t0);
    for (int g = 0; g < G; g++) {
      const float correction = tile_softmax(scores[g], p0 - t0, p1 - t0, &largest[g], &total[g]);
      for (int c = 0; c < a.d_v; c++) out[g * a.d_v + c] *= correction;
    }
    tile_values<L, G>(a, out, p0, p1, scores, t0);
  }
  for (int g = 0; g < G; g++)
    for (int c = 0; c < a.d_v; c++) out[g * a.d_v + c] /= total[g];
}

// Query heads in groups of 8, 4, 2, 1: a KV row is read once per group.
template <class L>
void attention(const AttnKernelArgs& a) {
  int g = 0;
  const auto q = [&] { return a.q + g * a.d_k; };
  const auto out = [&] { return a.out + g * a.d_v; };
  for (; g + 8 <= a.n_group; g += 8) attend<L, 8>(a, q(), out());
  for (; g + 4 <= a.n_group; g += 4) attend<L, 4>(a, q(), out());
  for (; g + 2 <= a.n_group; g += 2) attend<L, 2>(a, q(), out());
  for (; g < a.n_group; g++) attend<L, 1>(a, q(), out());
}
