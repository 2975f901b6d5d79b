// Float kernels over 16 fixed lanes. Included inside an anonymous namespace by tu.cc.

// Loads of 16 elements; `load_tail` fills lanes >= n with zero.
struct LoadF32 {
  static constexpr int kBytes = 4;
  static inline V16 load(const void* p) { return vload(static_cast<const float*>(p)); }
};
struct LoadF16 {
  static constexpr int kBytes = 2;
  static inline V16 load(const void* p) { return vload_f16(p); }
};
struct LoadBf16 {
  static constexpr int kBytes = 2;
  static inline V16 load(const void* p) { return vload_bf16(p); }
};
template <class L>
inline V16 load_tail(const void* p, int n) {
  alignas(64) uint8_t padded[64] = {};
  memcpy(padded, p, static_cast<size_t>(n) * L::kBytes);
  return L::load(padded);
}
inline void store_tail(float* p, V16 x, int n) {
  alignas(64) float all[16];
  vstore(all, x);
  memcpy(p, all, static_cast<size_t>(n) * 4);
}

// e^x. Cody-Waite reduction to |r| <= ln2/2 and a degree-6 Taylor polynomial in Horner form:
// relative error < 3e-7 (checked in a test over the whole range). 0 below -87 (the result would be
// subnormal), e^88 above 88.
inline V16 vexp(V16 x) {
  const V16 low = vset1(-87.f);
  const V16 c = vmin(vset1(88.f), vmax(low, x));
  const I16 n = ifrom_f32(vmul(c, vset1(1.44269504f)));
  const V16 nf = vfrom_i32(n);
  V16 r = vfma(nf, vset1(-0.693359375f), c);  // ln2 split in a short high part ...
  r = vfma(nf, vset1(2.12194440e-4f), r);     // ... and the rest
  V16 p = vset1(1.f / 720);
  p = vfma(p, r, vset1(1.f / 120));
  p = vfma(p, r, vset1(1.f / 24));
  p = vfma(p, r, vset1(1.f / 6));
  p = vfma(p, r, vset1(0.5f));
  p = vfma(p, r, vset1(1.f));
  p = vfma(p, r, vset1(1.f));
  return vzero_below(x, low, vscale2(p, n));
}

void quantise_row(const float* x, int n, MutableActRow out) {
  for (int b = 0; b < n / kActBlock; b++) {
    const V16 lo = vload(x + 32 * b), hi = vload(x + 32 * b + 16);
    const float largest = vreduce_max(vmax(vabs(lo), vabs(hi)));
    const float d = largest / 127.f;
    const V16 inverse = vset1(largest > 0.f ? 127.f / largest : 0.f);
    const I16 qlo = ifrom_f32(vmul(lo, inverse)), qhi = ifrom_f32(vmul(hi, inverse));
    istore_i8(out.q + 32 * b, qlo);
    istore_i8(out.q + 32 * b + 16, qhi);
    const int32_t slo = ireduce_add(qlo), shi = ireduce_add(qhi);
    out.sum16[2 * b] = slo;
    out.sum16[2 * b + 1] = shi;
    out.d[b] = d;
    out.dsum[b] = d * static_cast<float>(slo + shi);
  }
}

// R rows x N activations, lanes along K.
template <class L, int R, int N>
inline void dot_block(const std::byte* w, size_t row_bytes, int d_in, const float* const* x,
                      float* y, size_t y_stride) {
  V16 acc[R][N];
  HOB_UNROLL for (int r = 0; r < R; r++) HOB_UNROLL for (int t = 0; t < N; t++) acc[r][t] =
      vset1(0.f);
  int k = 0;
  for (; k + 16 <= d_in; k += 16) {
    V16 xv[N];
    HOB_UNROLL for (int t = 0; t < N; t++) xv[t] = vload(x[t] + k);
    HOB_UNROLL for (int r = 0; r < R; r++) {
      const V16 wv =
          L::load(w + static_cast<size_t>(r) * row_bytes + static_cast<size_t>(k) * L::kBytes);
      HOB_UNROLL for (int t = 0; t < N; t++) acc[r][t] = vfma(wv, xv[t], acc[r][t]);
    }
  }
  if (k < d_in)
    for (int r = 0; r < R; r++) {
      const V16 wv = load_tail<L>(
          w + static_cast<size_t>(r) * row_bytes + static_cast<size_t>(k) * L::kBytes, d_in - k);
      for (int t = 0; t < N; t++)
        acc[r][t] = vfma(wv, load_tail<LoadF32>(x[t] + k, d_in - k), acc[r][t]);
    }
  for (int r = 0; r < R; r++)
    for (int t = 0; t < N; t++)
      y[static_cast<size_t>(t) * y_stride + static_cast<size_t>(r)] = vreduce_add(acc[r][t]);
}

template <class L, int R>
inline void dot_rows(const std::byte* w, size_t row_bytes, int d_in, const float* const* x, int n_x,
                     float* y, size_t y_stride) {
  int t = 0;
  for (; t + 4 <= n_x; t += 4)
    dot_block<L, R, 4>(w, row_bytes, d_in, x + t, y + static_cast<size_t>(t) * y_stride, y_stride);
  for (; t < n_x; t++)
    dot_block<L, R, 1>(w, row_bytes, d_in, x + t, y + static_cast<size_t>(t) * y_stride, y_stride);
}

template <class L>
void mul_rows(const std::byte* w, int d_in, int n_rows, const float* const* x, int n_x, float* y,
              size_t y_stride) {
  const size_t row_bytes = static_cast<size_t>(d_in) * L::kBytes;
  int r = 0;
  for (; r + 4 <= n_rows; r += 4)
    dot_rows<L, 4>(w + static_cast<size_t>(r) * row_bytes, row_bytes, d_in, x, n_x, y + r,
                   y_stride);
  for (; r < n_rows; r++)
    dot_rows<L, 1>(w + static_cast<size_t>(r) * row_bytes, row_bytes, d_in, x, n_x, y + r,
                   y_stride);
}

void rms_norm(const float* x, const float* w, int n, float eps, float* y) {
  V16 sum = vset1(0.f);
  int k = 0;
  for (; k + 16 <= n; k += 16) sum = vfma(vload(x + k), vload(x + k), sum);
  if (k < n) {
    const V16 t = load_tail<LoadF32>(x + k, n - k);
    sum = vfma(t, t, sum);
  }
  const V16 scale = vset1(1.f / sqrtf(vreduce_add(sum) / static_cast<float>(n) + eps));
  for (k = 0; k + 16 <= n; k += 16) vstore(y + k, vmul(vmul(vload(x + k), scale), vload(w + k)));
  if (k < n)
    store_tail(
        y + k,
        vmul(vmul(load_tail<LoadF32>(x + k, n - k), scale), load_tail<LoadF32>(w + k, n - k)),
        n - k);
}

// The mean first, then the squares of what is left: one pass of x and x^2 would cancel.
void layer_norm(const float* x, const float* w, const float* bias, int n, float eps, float* y) {
  V16 sum = vset1(0.f);
  int k = 0;
  for (; k + 16 <= n; k += 16) sum = vadd(sum, vload(x + k));
  if (k < n) sum = vadd(sum, load_tail<LoadF32>(x + k, n - k));
  const float mean = vreduce_add(sum) / static_cast<float>(n);
  V16 squares = vset1(0.f);
  for (k = 0; k + 16 <= n; k += 16) {
    const V16 d = vsub(vload(x + k), vset1(mean));
    squares = vfma(d, d, squares);
  }
  if (k < n) {
    alignas(64) float rest[16] = {};
    for (int i = k; i < n; i++) rest[i - k] = x[i] - mean;
    squares = vfma(vload(rest), vload(rest), squares);
  }
  const float scale = 1.f / sqrtf(vreduce_add(squares) / static_cast<float>(n) + eps);
  const auto one = [&](V16 v, V16 weight, V16 b) {
    return vfma(vmul(vsub(v, vset1(mean)), vset1(scale)), weight, b);
  };
  for (k = 0; k + 16 <= n; k += 16)
    vstore(y + k, one(vload(x + k), vload(w + k), vload(bias + k)));
  if (k < n)
    store_tail(y + k,
               one(load_tail<LoadF32>(x + k, n - k), load_tail<LoadF32>(w + k, n - k),
                   load_tail<LoadF32>(bias + k, n - k)),
               n - k);
}

// g * sigmoid(z)
inline V16 times_sigmoid(V16 g, V16 z) { return vdiv(g, vadd(vset1(1.f), vexp(negate(z)))); }
struct SiluUnit {
  static inline V16 apply(V16 g, V16 u) { return vmul(times_sigmoid(g, g), u); }
};
// gelu(g) = g/2 (1 + tanh z) = g * sigmoid(2 z), z = sqrt(2/pi) (g + 0.044715 g^3).
inline V16 gelu(V16 x) {
  const V16 cubic = vfma(vmul(vmul(x, x), vset1(0.044715f)), x, x);
  return times_sigmoid(x, vmul(cubic, vset1(1.5957691f)));  // 2 sqrt(2/pi)
}
struct GeluUnit {
  static inline V16 apply(V16 g, V16 u) { return vmul(gelu(g), u); }
};
// The peer's answers to 1e-5 instead of 3e-3; a step is an eighth of the bf16 that the model was
// published in.
inline V16 round_to_f16(V16 x) {
  alignas(64) uint16_t half[16];
  vstore_f16(half, x);
  return vload_f16(half);
}
struct GeluF16Unit {
  static inline V16 apply(V16 g, V16 u) {
    return vmul(round_to_f16(gelu(round_to_f16(g))), u);
  }
};
// Ref: gpt-oss model card: limit 7, alpha 1.702.
struct ClampedSiluUnit {
  static inline V16 apply(V16 g, V16 u) {
    const V16 limit = vset1(7.f), gate = vmin(g, limit);
    const V16 up = vmax(negate(limit), vmin(u, limit));
    return vmul(times_sigmoid(gate, vmul(gate, vset1(1.702f))), vadd(up, vset1(1.f)));
  }
};
template <class Unit>
void gated_unit(const float* gate, const float* up, int n, float* y) {
  int k = 0;
  for (; k + 16 <= n; k += 16) vstore(y + k, Unit::apply(vload(gate + k), vload(up + k)));
  if (k < n)
    store_tail(y + k,
               Unit::apply(load_tail<LoadF32>(gate + k, n - k), load_tail<LoadF32>(up + k, n - k)),
               n - k);
}

void add_row(const float* x, int n, float* y) {
  for (int k = 0; k < n; k++) y[k] += x[k];
}

void axpy(float a, const float* x, int n, float* y) {
  const V16 av = vset1(a);
  int k = 0;
  for (; k + 16 <= n; k += 16) vstore(y + k, vfma(av, vload(x + k), vload(y + k)));
  if (k < n)
    store_tail(y + k, vfma(av, load_tail<LoadF32>(x + k, n - k), load_tail<LoadF32>(y + k, n - k)),
               n - k);
}

void softmax(float* x, int n) {
  float largest = x[0];
  for (int k = 1; k < n; k++) largest = x[k] > largest ? x[k] : largest;
  V16 sum = vset1(0.f);
  int k = 0;
  for (; k + 16 <= n; k += 16) {
    const V16 e = vexp(vsub(vload(x + k), vset1(largest)));
    sum = vadd(sum, e);
    vstore(x + k, e);
  }
  if (k < n) {
    store_tail(x + k, vexp(vsub(load_tail<LoadF32>(x + k, n - k), vset1(largest))), n - k);
    sum = vadd(sum, load_tail<LoadF32>(x + k, n - k));
  }
  const V16 total = vset1(vreduce_add(sum));
  for (k = 0; k + 16 <= n; k += 16) vstore(x + k, vdiv(vload(x + k), total));
  if (k < n) store_tail(x + k, vdiv(load_tail<LoadF32>(x + k, n - k), total), n - k);
}
