// Products of prepared quantised panels with 8-bit activations, for every block type of
// quant_blocks.inl.h. Two forms with the same bits (canonical order, kernels/table.h): `gemv`
// streams the weights once for up to kMaxGemvActs rows with the codes unpacked in registers;
// `tiled` unpacks 16 rows x kTileK codes into an L1 buffer and runs it against many rows. Included
// inside an anonymous namespace by tu.cc.

inline int32_t load_act4(const int8_t* p) {
  int32_t a;
  memcpy(&a, p, 4);
  return a;
}

template <class T>
constexpr int kSubsPerChunk = T::kChunk / T::kSub;

template <class T>
inline int32_t act_sum(const ActRow& act, int k) {
  if constexpr (T::kSub == 16) return act.sum16[k / 16];
  return act.sum16[k / 16] + act.sum16[k / 16 + 1];
}
template <class T>
inline I16 start_sum(const ActRow& act, int k) {
  if constexpr (T::kSigned) return signed_start(act_sum<T>(act, k));
  if constexpr (T::kZero != 0) return iset1(-T::kZero * act_sum<T>(act, k));
  return iset1(0);
}
template <class T>
inline I16 dot_line(I16 acc, B64 line, int32_t a4) {
  if constexpr (T::kSigned) return dot_signed(acc, line, a4);
  return dot_unsigned(acc, line, a4);
}
template <class T>
inline B64 prepare_line(B64 line) {
  if constexpr (T::kSigned) return signed_line(line);
  return line;
}
// The f32 part of one sub-block, the one place where it is written.
template <class T>
inline V16 add_sub_block(V16 acc, I16 isum, V16 d, V16 m, const ActRow& act, int k) {
  const float d_act = act.d[k / kActBlock];
  acc = vfma(vfrom_i32(isum), vmul(d, vset1(d_act)), acc);
  if constexpr (T::kHasMin) {
    const float dsum =
        T::kSub == 32 ? act.dsum[k / kActBlock] : d_act * static_cast<float>(act.sum16[k / 16]);
    acc = vfma(vset1(-dsum), m, acc);
  }
  return acc;
}

// Whether the products of a whole sub-block fit in one partial sum (simd.h).
template <class T>
constexpr bool kPartialSub = partial_run(T::kMaxCode, T::kSigned, T::kSub / 4) == T::kSub / 4;

template <class T, int N, int C>
inline void gemv_chunk(const uint8_t* block, const ActRow* acts, int k0, V16* acc) {
  constexpr int kSubs = kSubsPerChunk<T>;
  const int k = k0 + C * T::kChunk;
  I16 isum[N][kSubs];
  Partial part[N][kSubs];
  HOB_UNROLL for (int t = 0; t < N; t++) HOB_UNROLL for (int s = 0; s < kSubs; s++) {
    isum[t][s] = start_sum<T>(acts[t], k + s * T::kSub);
    part[t][s] = partial_start(isum[t][s]);
  }
  T::template chunk<C>(block, [&](int g, B64 codes) HOB_INLINE_LAMBDA {
    const B64 line = prepare_line<T>(codes);
    const int s = 4 * g / T::kSub;
    HOB_UNROLL for (int t = 0; t < N; t++) {
      const int32_t a4 = load_act4(acts[t].q + k + 4 * g);
      if constexpr (kPartialSub<T>)
        part[t][s] = partial_dot<T::kSigned>(part[t][s], line, a4);
      else
        isum[t][s] = dot_line<T>(isum[t][s], line, a4);
    }
  });
  V16 d[kSubs], m[kSubs];
  T::template scales<C>(block, d, m);
  HOB_UNROLL for (int s = 0; s < kSubs; s++) HOB_UNROLL for (int t = 0; t < N; t++) {
    if constexpr (kPartialSub<T>) isum[t][s] = partial_total(isum[t][s], part[t][s]);
    acc[t] = add_sub_block<T>(acc[t], isum[t][s], d[s], m[s], acts[t], k + s * T::kSub);
  }
}

// The weights of one row of activations come straight from memory. They lie in one stream, but
// unpacking goes back to each block's scales, which throws the hardware's prefetchers off: a core
// gets 23 (Q4_K) and 18 GB/s (Q6_K) where plain reads give 34. So chunk C asks for its like further
// ahead; beyond the end of the weights that has no effect.
constexpr int kStreamAhead = 4096;
template <class T, int C>
inline void prefetch_chunk(const uint8_t* block) {
  constexpr int kChunks = T::kBlock / T::kChunk, kBytes = T::kBytes * kPanelRows;
  constexpr int kFrom = kBytes * C / kChunks / 64 * 64;
  constexpr int kTo = C + 1 == kChunks ? kBytes : kBytes * (C + 1) / kChunks / 64 * 64;
  HOB_UNROLL for (int at = kFrom; at < kTo; at += 64)
      __builtin_prefetch(block + kStreamAhead + at);
}

template <class T, int N, int... C>
inline void gemv_block(const uint8_t* block, const ActRow* acts, int k0, V16* acc,
                       std::integer_sequence<int, C...>) {
  ((prefetch_chunk<T, C>(block), gemv_chunk<T, N, C>(block, acts, k0, acc)), ...);
}

template <class T>
using Chunks = std::make_integer_sequence<int, T::kBlock / T::kChunk>;

template <class T, int N>
void gemv_panels(const uint8_t* w, int d_in, int n_panels, const ActRow* acts, float* y,
                 size_t y_stride) {
  for (int p = 0; p < n_panels; p++) {
    V16 acc[N];
    for (int t = 0; t < N; t++) acc[t] = vset1(0.f);
    for (int k = 0; k < d_in; k += T::kBlock, w += T::kBytes * kPanelRows)
      gemv_block<T, N>(w, acts, k, acc, Chunks<T>{});
    for (int t = 0; t < N; t++)
      vstore(y + static_cast<size_t>(t) * y_stride + p * kPanelRows, acc[t]);
  }
}

// 16 rows x 256 codes are 4 KiB, their scales at most 2 KiB: with a group of activations they stay
// in a 32 KiB L1.
constexpr int kTileK = 256;
// Activations that share the unpacking of a tile.
constexpr int kTiledActs = 64;
constexpr int kTileSums = kTilePanels * kPanelRows;
template <class T>
struct Tile {
  alignas(64) uint8_t lines[kTileK / 4 * 64];
  alignas(64) float d[kTileK / T::kSub][16];
  alignas(64) float m[T::kHasMin ? kTileK / T::kSub : 1][16];
};

template <class T, int C>
inline void unpack_chunk(const uint8_t* block, Tile<T>* tile, int k) {
  constexpr int kSubs = kSubsPerChunk<T>;
  k += C * T::kChunk;
  uint8_t* lines = tile->lines + k * 16;
  T::template chunk<C>(block, [&](int g, B64 codes) HOB_INLINE_LAMBDA {
    bstore(lines + 64 * g, prepare_line<T>(codes));
  });
  V16 d[kSubs], m[kSubs];
  T::template scales<C>(block, d, m);
  HOB_UNROLL for (int s = 0; s < kSubs; s++) {
    vstore(tile->d[k / T::kSub + s], d[s]);
    if constexpr (T::kHasMin) vstore(tile->m[k / T::kSub + s], m[s]);
  }
}
template <class T, int... C>
inline void unpack_block(const uint8_t* block, Tile<T>* tile, int k,
                         std::integer_sequence<int, C...>) {
  (unpack_chunk<T, C>(block, tile, k), ...);
}

// Exact sums of one sub-block for R panels x N activations.
template <class T, int R, int N>
inline void tile_sums(const Tile<T>* tiles, const ActRow* acts, const int8_t* const* q, int k0,
                      int k, I16 (*isum)[N]) {
  HOB_UNROLL for (int t = 0; t < N; t++) {
    const I16 start = start_sum<T>(acts[t], k0 + k);
    HOB_UNROLL for (int r = 0; r < R; r++) isum[r][t] = start;
  }
  constexpr int kGroups = T::kSub / 4, kRun = partial_run(T::kMaxCode, T::kSigned, kGroups);
  HOB_UNROLL for (int run = 0; run < kGroups; run += kRun) {
    Partial part[R][N];
    HOB_UNROLL for (int r = 0; r < R; r++) HOB_UNROLL for (int t = 0; t < N; t++) part[r][t] =
        partial_start(isum[r][t]);
    HOB_UNROLL for (int g = run; g < run + kRun; g++) {
      B64 line[R];
      HOB_UNROLL for (int r = 0; r < R; r++) line[r] = bload(tiles[r].lines + k * 16 + 64 * g);
      HOB_UNROLL for (int t = 0; t < N; t++) {
        const int32_t a4 = load_act4(q[t] + k + 4 * g);
        HOB_UNROLL for (int r = 0; r < R; r++) part[r][t] =
            partial_dot<T::kSigned>(part[r][t], line[r], a4);
      }
    }
    HOB_UNROLL for (int r = 0; r < R; r++) HOB_UNROLL for (int t = 0; t < N; t++) isum[r][t] =
        partial_total(isum[r][t], part[r][t]);
  }
}

// The codes of the next tile come into L2 while this one is multiplied, a few lines per sub-block:
// between two unpackings the hardware prefetchers see no stream, and all lines asked for at once
// would hold up the products until memory has answered.
template <int R>
struct NextTile {
  const uint8_t* at;  // of panel 0; the others lie `panel` bytes apart
  const uint8_t* end;
  size_t panel;
  int n_lines;  // per sub-block and panel

  void prefetch() {
    for (int i = 0; i < n_lines && at < end; i++, at += 64)
      HOB_UNROLL for (int r = 0; r < R; r++) __builtin_prefetch(at + r * panel, 0, 2);
  }
};

// sums [N][kTilePanels * 16] += tiles of R panels * activations [k0, k0 + n_k).
template <class T, int R, int N>
inline void tile_times_acts(const Tile<T>* tiles, int n_k, const ActRow* acts, int k0, float* sums,
                            NextTile<R>& next) {
  V16 acc[R][N];
  const int8_t* q[N];
  HOB_UNROLL for (int t = 0; t < N; t++) {
    HOB_UNROLL for (int r = 0; r < R; r++) acc[r][t] = vload(sums + kTileSums * t + 16 * r);
    q[t] = acts[t].q + k0;
  }
  for (int k = 0; k < n_k; k += T::kSub) {
    next.prefetch();
    I16 isum[R][N];
    tile_sums<T, R, N>(tiles, acts, q, k0, k, isum);
    HOB_UNROLL for (int r = 0; r < R; r++) {
      const V16 d = vload(tiles[r].d[k / T::kSub]);
      const V16 m = T::kHasMin ? vload(tiles[r].m[k / T::kSub]) : d;
      HOB_UNROLL for (int t = 0; t < N; t++) acc[r][t] =
          add_sub_block<T>(acc[r][t], isum[r][t], d, m, acts[t], k0 + k);
    }
  }
  HOB_UNROLL for (int t = 0; t < N; t++) HOB_UNROLL for (int r = 0; r < R; r++)
      vstore(sums + kTileSums * t + 16 * r, acc[r][t]);
}

template <class T, int R, int N>
inline int tile_times_rows(const Tile<T>* tiles, int n_k, const ActRow* acts, int t, int n, int k0,
                           float* sums, NextTile<R>& next) {
  for (; t + N <= n; t += N)
    tile_times_acts<T, R, N>(tiles, n_k, acts + t, k0, sums + kTileSums * t, next);
  return t;
}

// `at`: its panel 0. Asked for within about two thirds of the time that this tile takes for n rows:
// the last lines need time to arrive.
template <class T, int R>
inline NextTile<R> next_tile(const uint8_t* at, size_t panel, int n) {
  constexpr int kBytes = kTileK / T::kBlock * T::kBytes * kPanelRows;
  const int n_steps = (n + kTileActs - 1) / kTileActs * (kTileK / T::kSub);
  const int n_lines = (kBytes / 64 * 3 / 2 + n_steps - 1) / n_steps;
  return {.at = at, .end = at + kBytes, .panel = panel, .n_lines = n_lines};
}

// R panels times n activations, into y [n][R * 16].
template <class T, int R>
void tiled_panels(const uint8_t* w, int d_in, const ActRow* acts, int n, float* y,
                  size_t y_stride) {
  const size_t panel = static_cast<size_t>(d_in) / T::kBlock * T::kBytes * kPanelRows;
  alignas(64) float sums[kTiledActs * kTileSums];
  memset(sums, 0, static_cast<size_t>(n) * kTileSums * 4);
  for (int k0 = 0; k0 < d_in; k0 += kTileK) {
    const int n_k = d_in - k0 < kTileK ? d_in - k0 : kTileK;
    Tile<T> tiles[R];
    for (int r = 0; r < R; r++) {
      const uint8_t* block = w + static_cast<size_t>(r) * panel +
                             static_cast<size_t>(k0 / T::kBlock * T::kBytes * kPanelRows);
      for (int k = 0; k < n_k; k += T::kBlock, block += T::kBytes * kPanelRows)
        unpack_block<T>(block, &tiles[r], k, Chunks<T>{});
    }
    const size_t at = static_cast<size_t>((k0 + n_k) / T::kBlock * T::kBytes * kPanelRows);
    const bool last = k0 + n_k == d_in;  // then the next R panels begin
    NextTile<R> next = next_tile<T, R>(w + at + (last ? (R - 1) * panel : 0), panel, n);
    const auto multiply = [&]<int N>(int t) HOB_INLINE_LAMBDA {
      return tile_times_rows<T, R, N>(tiles, n_k, acts, t, n, k0, sums, next);
    };
    int t = multiply.template operator()<kTileActs>(0);
    if constexpr (kTileActs > 4) t = multiply.template operator()<4>(t);
    if constexpr (kTileActs > 2) t = multiply.template operator()<2>(t);
    if constexpr (kTileActs > 1) multiply.template operator()<1>(t);
  }
  for (int t = 0; t < n; t++)
    memcpy(y + static_cast<size_t>(t) * y_stride, sums + kTileSums * t, 64 * R);
}

template <class T>
void tiled(const uint8_t* w, int d_in, int n_panels, const ActRow* acts, int n_acts, float* y,
           size_t y_stride) {
  const size_t panel = static_cast<size_t>(d_in) / T::kBlock * T::kBytes * kPanelRows;
  for (int p = 0; p < n_panels;) {
    const int n_tile = p + kTilePanels <= n_panels ? kTilePanels : 1;
    const uint8_t* from = w + static_cast<size_t>(p) * panel;
    for (int t0 = 0; t0 < n_acts; t0 += kTiledActs) {
      const int n = n_acts - t0 < kTiledActs ? n_acts - t0 : kTiledActs;
      float* to = y + static_cast<size_t>(t0) * y_stride + p * kPanelRows;
      if (n_tile == kTilePanels)
        tiled_panels<T, kTilePanels>(from, d_in, acts + t0, n, to, y_stride);
      else
        tiled_panels<T, 1>(from, d_in, acts + t0, n, to, y_stride);
    }
    p += n_tile;
  }
}

// Two sub-blocks per chunk leave registers for 4 rows at once, eight for 2.
template <class T>
constexpr int kGemvActs = kSubsPerChunk<T> <= 2 ? kMaxGemvActs : kMaxGemvActs / 2;

template <class T>
void mul_panels(const std::byte* panels, int d_in, int n_panels, const ActRow* acts, int n_acts,
                float* y, size_t y_stride) {
  const uint8_t* w = reinterpret_cast<const uint8_t*>(panels);
  if (n_acts == 1) return gemv_panels<T, 1>(w, d_in, n_panels, acts, y, y_stride);
  if constexpr (kGemvActs<T> >= 2) {
    if (n_acts == 2) return gemv_panels<T, 2>(w, d_in, n_panels, acts, y, y_stride);
  }
  if constexpr (kGemvActs<T> >= 4) {
    if (n_acts == 3) return gemv_panels<T, 3>(w, d_in, n_panels, acts, y, y_stride);
    if (n_acts == 4) return gemv_panels<T, 4>(w, d_in, n_panels, acts, y, y_stride);
  }
  tiled<T>(w, d_in, n_panels, acts, n_acts, y, y_stride);
}
