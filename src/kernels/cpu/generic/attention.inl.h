// Attention over one KV head: blocks of queries (query heads that share the head, rows of a
// prefill) against fixed tiles of 64 positions counted from 0. Canonical: a query's sums run over
// ascending coordinates and positions whatever other queries are in its block. Online softmax:
// Milakov & Gimelshein 2018. Included inside an anonymous namespace by tu.cc.

constexpr int kAttnTile = 64;
constexpr int kTileBlocks = kAttnTile / kKvBlock;

// How 16 numbers are loaded: coordinate c of the 16 tokens of a K block, and 16 coordinates of a V
// row. Codes are multiplied by their scale first, so q8 has the bits of f32 with the same numbers.
template <class L>
struct KvFloats {
  static constexpr bool kScaled = false;
  static constexpr size_t kBytes = L::kBytes;
  static inline V16 load(const std::byte* p) { return L::load(p); }
  static inline V16 load_upto(const std::byte* p, int n) {
    return n >= 16 ? L::load(p) : load_tail<L>(p, n);
  }
};
struct KvQ8 {
  static constexpr bool kScaled = true;
  static constexpr size_t kBytes = 1;
  static inline V16 load(const std::byte* p) { return vfrom_i8(sload(p)); }
  static inline V16 load_upto(const std::byte* p, int) { return load(p); }  // d % 32 == 0
};

// Where the 16 tokens' scales j lie in a block: behind the codes.
inline size_t q8_scales(int d, int j) {
  return static_cast<size_t>(d) * kKvBlock + static_cast<size_t>(j) * kKvBlock * 2;
}

inline size_t slot_block(int slot) { return static_cast<size_t>(slot) / kKvBlock; }
inline size_t slot_token(int slot) { return static_cast<size_t>(slot) % kKvBlock; }

// The visible positions [p0, p1) of one 16-position stretch that starts at p (p <= p0 < p1 <=
// p + 16). Position and place in the block agree wherever a sequence grows token by token; then the
// stretch is a block of the store.
inline bool in_place(const int32_t* slots, int p, int p0, int p1) {
  const int base = slots[p0] - (p0 - p);
  int differs = base % kKvBlock;
  for (int i = p0; i < p1; i++) differs |= slots[i] - (i - p) - base;
  return differs == 0;
}

// Else (branches of a draft tree) its K are collected from several blocks.
template <class L>
inline void gather_k(const AttnKernelArgs& a, int p, int p0, int p1, std::byte* to) {
  for (int i = p0; i < p1; i++) {
    const size_t token = slot_token(a.slots[i]), lane = static_cast<size_t>(i - p);
    const std::byte* from = a.k + slot_block(a.slots[i]) * a.k_stride;
    for (size_t c = 0; c < static_cast<size_t>(a.d_k); c++)
      memcpy(to + (c * kKvBlock + lane) * L::kBytes, from + (c * kKvBlock + token) * L::kBytes,
             L::kBytes);
    if constexpr (L::kScaled)
      for (int j = 0; j < a.d_k / kKvScaleWidth; j++)
        memcpy(to + q8_scales(a.d_k, j) + 2 * lane, from + q8_scales(a.d_k, j) + 2 * token, 2);
  }
}

// scores[i][at + 16 b ..] of N queries and B blocks: sums over ascending coordinates, one lane
// each.
template <class L, int N, int B>
inline void block_scores(const AttnKernelArgs& a, const AttnQuery* queries,
                         const std::byte* const* blocks, int at, float (*scores)[kAttnTile]) {
  V16 acc[N][B];
  HOB_UNROLL for (int i = 0; i < N; i++) HOB_UNROLL for (int b = 0; b < B; b++) acc[i][b] =
      vset1(0.f);
  for (int c0 = 0; c0 < a.d_k; c0 += kKvScaleWidth) {
    V16 d[B];
    if constexpr (L::kScaled) {
      HOB_UNROLL for (int b = 0; b < B; b++) d[b] =
          vload_f16(blocks[b] + q8_scales(a.d_k, c0 / kKvScaleWidth));
    }
    const int end = c0 + kKvScaleWidth < a.d_k ? c0 + kKvScaleWidth : a.d_k;
    for (int c = c0; c < end; c++) {
      V16 k[B];
      HOB_UNROLL for (int b = 0; b < B; b++) {
        k[b] = L::load(blocks[b] + static_cast<size_t>(c) * kKvBlock * L::kBytes);
        if constexpr (L::kScaled) k[b] = vmul(k[b], d[b]);
      }
      HOB_UNROLL for (int i = 0; i < N; i++) {
        const V16 q = vset1(queries[i].q[c]);
        HOB_UNROLL for (int b = 0; b < B; b++) acc[i][b] = vfma(q, k[b], acc[i][b]);
      }
    }
  }
  const V16 scale = vset1(a.scale);
  HOB_UNROLL for (int i = 0; i < N; i++) HOB_UNROLL for (int b = 0; b < B; b++)
      vstore(scores[i] + at + kKvBlock * b, vmul(acc[i][b], scale));
}

// Fetches K and V of the tile at t0 while the one before is computed: a head's blocks lie
// n_kv_heads blocks apart, too short a run for the hardware's prefetchers.
template <class L>
inline void prefetch_tile_kv(const AttnKernelArgs& a, int t0, int last) {
  const size_t k_bytes = static_cast<size_t>(a.d_k) * kKvBlock * L::kBytes,
               v_bytes = static_cast<size_t>(a.d_v) * kKvBlock * L::kBytes;
  for (int p = t0; p < t0 + kAttnTile && p < last; p += kKvBlock) {
    const size_t block = slot_block(a.slots[p]);
    for (size_t i = 0; i < k_bytes; i += 64) __builtin_prefetch(a.k + block * a.k_stride + i, 0, 2);
    if (a.v_in_k) continue;
    for (size_t i = 0; i < v_bytes; i += 64) __builtin_prefetch(a.v + block * a.v_stride + i, 0, 2);
  }
}

// Scores of the tile at t0 for positions [p0, p1); others are left as they are.
template <class L, int N>
inline void tile_scores(const AttnKernelArgs& a, const AttnQuery* queries, int t0, int p0, int p1,
                        float (*scores)[kAttnTile]) {
  const std::byte* blocks[kTileBlocks];
  int b = 0;
  for (; b < kTileBlocks; b++) {
    const int p = t0 + kKvBlock * b;
    if (p < p0 || p + kKvBlock > p1 || !in_place(a.slots, p, p, p + kKvBlock)) break;
    blocks[b] = a.k + slot_block(a.slots[p]) * a.k_stride;
  }
  if (b == kTileBlocks) {
    for (b = 0; b < kTileBlocks; b += kAttnBlocks)
      block_scores<L, N, kAttnBlocks>(a, queries, blocks + b, kKvBlock * b, scores);
    return;
  }
  alignas(64) std::byte gathered[kMaxKvWidth * kKvBlock * sizeof(float)];
  for (b = 0; b < kTileBlocks; b++) {
    const int p = t0 + kKvBlock * b;
    const int from = p > p0 ? p : p0, to = p + kKvBlock < p1 ? p + kKvBlock : p1;
    if (from >= to) continue;
    const std::byte* block = gathered;
    if (in_place(a.slots, p, from, to))
      block = a.k + slot_block(a.slots[from]) * a.k_stride;
    else
      gather_k<L>(a, p, from, to, gathered);
    block_scores<L, N, 1>(a, queries, &block, kKvBlock * b, scores);
  }
}

struct VRows {
  const std::byte* row[kAttnTile];
  alignas(64) float scale[kMaxKvWidth / kKvScaleWidth][kAttnTile];  // q8 only
};

// A latent (MLA) is K and V at once and lies as K does: the tile's rows are put together once for all
// queries. Of a block that lies in place all 16 tokens are, whoever sees them.
template <class L>
inline void transpose_v_rows(const AttnKernelArgs& a, int t0, int p0, int p1, VRows* v) {
  using E = typename CodeOf<L::kBytes>::Type;
  alignas(64) static thread_local E rows[kAttnTile * kMaxKvWidth];
  const size_t d = static_cast<size_t>(a.d_v);
  const auto block_of = [&](int p) {
    return reinterpret_cast<const E*>(a.k + slot_block(a.slots[p]) * a.k_stride);
  };
  for (int p = t0; p < p1; p += kKvBlock) {
    const int from = p > p0 ? p : p0, to = p + kKvBlock < p1 ? p + kKvBlock : p1;
    if (from >= to) continue;
    E* first = rows + static_cast<size_t>(p - t0) * d;
    for (int i = from; i < to; i++)
      v->row[i - t0] = reinterpret_cast<std::byte*>(first + static_cast<size_t>(i - p) * d);
    if (in_place(a.slots, p, from, to)) {
      transpose_block(block_of(from), d, first);
      continue;
    }
    for (int i = from; i < to; i++)
      for (size_t c = 0; c < d; c++)
        first[static_cast<size_t>(i - p) * d + c] =
            block_of(i)[c * kKvBlock + slot_token(a.slots[i])];
  }
}

template <class L>
inline void find_v_rows(const AttnKernelArgs& a, int t0, int p0, int p1, VRows* v) {
  const std::byte* base = a.v_in_k ? a.k : a.v;
  const size_t stride = a.v_in_k ? a.k_stride : a.v_stride;
  const int d = a.v_in_k ? a.d_k : a.d_v;
  const size_t row_bytes = static_cast<size_t>(a.d_v) * L::kBytes;
  if (a.v_in_k)
    transpose_v_rows<L>(a, t0, p0, p1, v);
  else
    for (int p = p0; p < p1; p++)
      v->row[p - t0] = base + slot_block(a.slots[p]) * stride + slot_token(a.slots[p]) * row_bytes;
  if constexpr (L::kScaled) {
    for (int j = 0; j < a.d_v / kKvScaleWidth; j++) {
      alignas(64) uint16_t halves[kAttnTile] = {};
      for (int p = p0; p < p1; p++)
        memcpy(&halves[p - t0],
               base + slot_block(a.slots[p]) * stride + q8_scales(d, j) +
                   2 * slot_token(a.slots[p]),
               2);
      for (int i = 0; i < kAttnTile; i += 16) vstore(v->scale[j] + i, vload_f16(halves + i));
    }
  }
}

// out[i][c .. c + 16 C) = out * correction[i] + sum over [p0, p1) of prob * V, ascending positions.
// `n`: coordinates left.
template <class L, int N, int C>
inline void value_columns(const AttnQuery* queries, const VRows& v, int c, int n, int p0, int p1,
                          const float (*probs)[kAttnTile], const float* correction) {
  V16 acc[N][C];
  HOB_UNROLL for (int i = 0; i < N; i++) HOB_UNROLL for (int j = 0; j < C; j++) acc[i][j] =
      vmul(KvFloats<LoadF32>::load_upto(
               reinterpret_cast<const std::byte*>(queries[i].out + c + 16 * j), n - 16 * j),
           vset1(correction[i]));
  for (int p = p0; p < p1; p++) {
    const std::byte* row = v.row[p] + static_cast<size_t>(c) * L::kBytes;
    V16 x[C];
    HOB_UNROLL for (int j = 0; j < C; j++) {
      x[j] = L::load_upto(row + static_cast<size_t>(16 * j) * L::kBytes, n - 16 * j);
      if constexpr (L::kScaled) x[j] = vmul(x[j], vset1(v.scale[(c + 16 * j) / kKvScaleWidth][p]));
    }
    HOB_UNROLL for (int i = 0; i < N; i++) {
      const V16 prob = vset1(probs[i][p]);
      HOB_UNROLL for (int j = 0; j < C; j++) acc[i][j] = vfma(prob, x[j], acc[i][j]);
    }
  }
  HOB_UNROLL for (int i = 0; i < N; i++) HOB_UNROLL for (int j = 0; j < C; j++) {
    float* to = queries[i].out + c + 16 * j;
    if (n - 16 * j >= 16)
      vstore(to, acc[i][j]);
    else
      store_tail(to, acc[i][j], n - 16 * j);
  }
}

template <class L, int N>
inline void tile_values(const AttnKernelArgs& a, const AttnQuery* queries, const VRows& v, int p0,
                        int p1, const float (*probs)[kAttnTile], const float* correction) {
  int c = 0;
  for (; c + 16 * kAttnBlocks <= a.d_v; c += 16 * kAttnBlocks)
    value_columns<L, N, kAttnBlocks>(queries, v, c, 16 * kAttnBlocks, p0, p1, probs, correction);
  for (; c < a.d_v; c += 16)
    value_columns<L, N, 1>(queries, v, c, a.d_v - c, p0, p1, probs, correction);
}

inline float exp_scalar(float x) {
  alignas(64) float e[16];
  vstore(e, vexp(vset1(x)));
  return e[0];
}

// Scores of one query's tile -> probabilities relative to the running maximum. Returns the factor
// for what came before.
inline float tile_softmax(float* scores, float* largest, float* total) {
  V16 tile_max = vload(scores);
  for (int j = 16; j < kAttnTile; j += 16) tile_max = vmax(tile_max, vload(scores + j));
  const float m0 = vreduce_max(tile_max), m = m0 > *largest ? m0 : *largest;
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

// A sink counts as a position that was there before the first one.
struct AttnState {
  float largest = -INFINITY, total = 0.f;
  explicit AttnState(float sink) : largest(sink), total(sink > -INFINITY ? 1.f : 0.f) {}
  AttnState() = default;
};

// One tile for N queries. [p0, p1): what anyone may see of it, relative to t0.
template <class L, int N>
inline void attend_tile(const AttnKernelArgs& a, const AttnQuery* queries, AttnState* state, int t0,
                        int p0, int p1, const VRows& v) {
  alignas(64) float scores[N][kAttnTile];
  tile_scores<L, N>(a, queries, t0, t0 + p0, t0 + p1, scores);
  int begins[N], ends[N], from = p0, to = p1;
  float correction[N];
  for (int i = 0; i < N; i++) {
    const int skipped = queries[i].first - t0, left = queries[i].n_visible - t0;
    begins[i] = skipped > p0 ? skipped : p0;
    ends[i] = left > kAttnTile ? kAttnTile : left > 0 ? left : 0;
    if (begins[i] > from) from = begins[i];
    if (ends[i] < to) to = ends[i];
    correction[i] = 1.f;
    if (ends[i] <= begins[i]) continue;  // this query sees nothing of the tile
    for (int j = 0; j < begins[i]; j++) scores[i][j] = -INFINITY;
    for (int j = ends[i]; j < kAttnTile; j++) scores[i][j] = -INFINITY;
    correction[i] = tile_softmax(scores[i], &state[i].largest, &state[i].total);
  }
  // Each what it sees in front of the others, then together what all see, then each what is beyond.
  const auto alone = [&](int i, int p, int end) {
    if (p >= end) return;
    tile_values<L, 1>(a, queries + i, v, p, end, scores + i, correction + i);
    correction[i] = 1.f;
  };
  if (from >= to) {
    for (int i = 0; i < N; i++) alone(i, begins[i], ends[i]);
    return;
  }
  for (int i = 0; i < N; i++) alone(i, begins[i], from);
  tile_values<L, N>(a, queries, v, from, to, scores, correction);
  for (float& c : correction) c = 1.f;
  for (int i = 0; i < N; i++) alone(i, to, ends[i]);
}

template <class L>
void attention(const AttnKernelArgs& a) {
  AttnState state[kMaxAttnQueries];
  int first = INT32_MAX, last = 0;
  for (int i = 0; i < a.n_queries; i++) {
    state[i] = AttnState(a.queries[i].sink);
    if (a.queries[i].first < first) first = a.queries[i].first;
    if (a.queries[i].n_visible > last) last = a.queries[i].n_visible;
    for (int c = 0; c < a.d_v; c++) a.queries[i].out[c] = 0.f;
  }
  for (int t0 = first / kAttnTile * kAttnTile; t0 < last; t0 += kAttnTile) {
    const int p0 = first > t0 ? first - t0 : 0;
    const int p1 = last < t0 + kAttnTile ? last - t0 : kAttnTile;
    VRows v;
    find_v_rows<L>(a, t0, t0 + p0, t0 + p1, &v);
    prefetch_tile_kv<L>(a, t0 + kAttnTile, last);
    int i = 0;
    const auto tile = [&]<int N>(std::integral_constant<int, N>) {
      for (; i + N <= a.n_queries; i += N)
        attend_tile<L, N>(a, a.queries + i, state + i, t0, p0, p1, v);
    };
    tile(std::integral_constant<int, kAttnQueries>{});
    if constexpr (kAttnQueries > 2) tile(std::integral_constant<int, 2>{});
    if constexpr (kAttnQueries > 1) tile(std::integral_constant<int, 1>{});
  }
  for (int i = 0; i < a.n_queries; i++)
    for (int c = 0; c < a.d_v; c++) a.queries[i].out[c] /= state[i].total;
}

// One token's K (transposed) or V into its place in a block.
template <class E>
inline void put_codes(const E* from, int n, int at, int token, bool is_k, int d, E* block) {
  for (int i = 0; i < n; i++)
    block[is_k ? static_cast<size_t>(at + i) * kKvBlock + static_cast<size_t>(token)
               : static_cast<size_t>(token) * static_cast<size_t>(d) +
                     static_cast<size_t>(at + i)] = from[i];
}
void kv_write_f32(const float* x, int d, int token, bool is_k, std::byte* block) {
  put_codes(x, d, 0, token, is_k, d, reinterpret_cast<float*>(block));
}
void kv_write_f16(const float* x, int d, int token, bool is_k, std::byte* block) {
  for (int c = 0; c < d; c += 16) {
    const int n = d - c < 16 ? d - c : 16;
    uint16_t half[16];
    vstore_f16(half, KvFloats<LoadF32>::load_upto(reinterpret_cast<const std::byte*>(x + c), n));
    put_codes(half, n, c, token, is_k, d, reinterpret_cast<uint16_t*>(block));
  }
}
void kv_write_q8(const float* x, int d, int token, bool is_k, std::byte* block) {
  for (int c = 0; c < d; c += kKvScaleWidth) {
    const V16 lo = vload(x + c), hi = vload(x + c + 16);
    const float largest = vreduce_max(vmax(vabs(lo), vabs(hi)));
    alignas(64) uint16_t half[16];
    const float step = largest / 127.f;
    vstore_f16(half, vset1(step < 65504.f ? step : 65504.f));  // the largest f16
    alignas(64) float rounded[16];
    vstore(rounded, vload_f16(half));
    // The scale as stored decides the codes; rounded down it would push the largest past 127.
    const V16 inverse = vset1(rounded[0] > 0.f ? 1.f / rounded[0] : 0.f);
    const V16 limit = vset1(127.f);
    const auto code = [&](V16 v) {
      return ifrom_f32(vmax(negate(limit), vmin(limit, vmul(v, inverse))));
    };
    int8_t codes[32];
    istore_i8(codes, code(lo));
    istore_i8(codes + 16, code(hi));
    put_codes(codes, 32, c, token, is_k, d, reinterpret_cast<int8_t*>(block));
    memcpy(block + q8_scales(d, c / kKvScaleWidth) + 2 * static_cast<size_t>(token), half, 2);
  }
}
