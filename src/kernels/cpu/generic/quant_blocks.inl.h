// One struct per quantised type: how a prepared panel block (16 rows side by side,
// kernels/layout.h) becomes lines of codes and f32 scales. Formulas: research notes, serving §3.2.
// Included inside an anonymous namespace by tu.cc.
//
//   kBlock    weights per row in a block          kSub   weights that share a scale
//   kChunk    weights whose lines one call emits  kZero  subtracted from every (unsigned) code
//   kMaxCode  largest magnitude of a code as it stands in a line
//   chunk<C>(block, emit)     emit(g, line): codes 4g..4g+3 of chunk C, for g in [0, kChunk/4), any
//   order scales<C>(block, d, m)    weight = d[s] * (code - kZero) - m[s] for sub-block s of chunk
//   C; m only if kHasMin

// f16 scale (and minimum) of 16 rows at byte `at`.
inline V16 row_halves(const uint8_t* block, int at) { return vload_f16(block + at); }
inline V16 negate(V16 a) { return vsub(vset1(0.f), a); }

// Blocks of 32 weights: f16 scales of the 16 rows first, then f16 minima where there are any.
struct Scaled32 {
  static constexpr int kBlock = 32, kSub = 32, kChunk = 32;
  static constexpr bool kHasMin = false;
  template <int C>
  static inline void scales(const uint8_t* b, V16* d, V16*) {
    d[0] = row_halves(b, 0);
  }
};
struct ScaledMin32 {
  static constexpr int kBlock = 32, kSub = 32, kChunk = 32;
  static constexpr bool kHasMin = true;
  template <int C>
  static inline void scales(const uint8_t* b, V16* d, V16* m) {
    d[0] = row_halves(b, 0);
    m[0] = negate(row_halves(b, 32));
  }
};

// Four lines of nibbles, low ones first: codes 0..15 and 16..31 of a 32-weight block.
template <class Emit>
inline void emit_nibbles32(const uint8_t* lines, Emit&& emit) {
  HOB_UNROLL for (int u = 0; u < 4; u++) {
    const B64 x = bload(lines + 64 * u);
    emit(u, bbits<0, 15>(x));
    emit(4 + u, bbits<4, 15>(x));
  }
}

struct BlockQ4_0 : Scaled32 {
  static constexpr int kBytes = 18, kZero = 8, kMaxCode = 15;
  static constexpr bool kSigned = false;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_nibbles32(b + 32, emit);
  }
};

struct BlockQ4_1 : ScaledMin32 {
  static constexpr int kBytes = 20, kZero = 0, kMaxCode = 15;
  static constexpr bool kSigned = false;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_nibbles32(b + 64, emit);
  }
};

// Q5: the fifth bits of a row are one u32, bit j for code j.
template <class Emit>
inline void emit_fives(const uint8_t* high, const uint8_t* lines, Emit&& emit) {
  const B64 h = bload(high);
  const B64 x0 = bload(lines), x1 = bload(lines + 64), x2 = bload(lines + 128),
            x3 = bload(lines + 192);
  emit(0, bor(bbits<0, 15>(x0), bspread<0>(h, 16)));
  emit(1, bor(bbits<0, 15>(x1), bspread<4>(h, 16)));
  emit(2, bor(bbits<0, 15>(x2), bspread<8>(h, 16)));
  emit(3, bor(bbits<0, 15>(x3), bspread<12>(h, 16)));
  emit(4, bor(bbits<4, 15>(x0), bspread<16>(h, 16)));
  emit(5, bor(bbits<4, 15>(x1), bspread<20>(h, 16)));
  emit(6, bor(bbits<4, 15>(x2), bspread<24>(h, 16)));
  emit(7, bor(bbits<4, 15>(x3), bspread<28>(h, 16)));
}

struct BlockQ5_0 : Scaled32 {
  static constexpr int kBytes = 22, kZero = 16, kMaxCode = 31;
  static constexpr bool kSigned = false;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_fives(b + 32, b + 96, emit);
  }
};

struct BlockQ5_1 : ScaledMin32 {
  static constexpr int kBytes = 24, kZero = 0, kMaxCode = 31;
  static constexpr bool kSigned = false;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_fives(b + 64, b + 128, emit);
  }
};

struct BlockQ8_0 : Scaled32 {
  static constexpr int kBytes = 34, kZero = 0, kMaxCode = 128;
  static constexpr bool kSigned = true;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    HOB_UNROLL for (int u = 0; u < 8; u++) emit(u, bload(b + 32 + 64 * u));
  }
};

struct BlockQ2_K {
  static constexpr int kBlock = 256, kBytes = 84, kSub = 16, kChunk = 128, kZero = 0, kMaxCode = 3;
  static constexpr bool kSigned = false, kHasMin = true;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    HOB_UNROLL for (int u = 0; u < 8; u++) {
      const B64 x = bload(b + 320 + 64 * (8 * C + u));
      emit(u, bbits<0, 3>(x));
      emit(8 + u, bbits<2, 3>(x));
      emit(16 + u, bbits<4, 3>(x));
      emit(24 + u, bbits<6, 3>(x));
    }
  }
  template <int C>
  static inline void scales(const uint8_t* b, V16* d, V16* m) {
    const V16 d0 = row_halves(b, 0), m0 = row_halves(b, 32);
    HOB_UNROLL for (int s = 0; s < 8; s++) {
      const B16 x = sload(b + 64 + 16 * (8 * C + s));
      d[s] = vmul(d0, vfrom_u8(sbits<0, 15>(x)));
      m[s] = vmul(m0, vfrom_u8(sbits<4, 15>(x)));
    }
  }
};

struct BlockQ3_K {
  static constexpr int kBlock = 256, kBytes = 110, kSub = 16, kChunk = 128, kZero = 4, kMaxCode = 7;
  static constexpr bool kSigned = false, kHasMin = false;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    HOB_UNROLL for (int u = 0; u < 8; u++) {
      const B64 h = bload(b + 224 + 128 * u),
                x = bload(C == 0 ? b + 288 + 128 * u : b + 1248 + 64 * u);
      emit(u, bor(bbits<0, 3>(x), bbits_left<2, 1>(bbits<4 * C, 1>(h))));
      emit(8 + u, bor(bbits<2, 3>(x), bbits_left<2, 1>(bbits<4 * C + 1, 1>(h))));
      emit(16 + u, bor(bbits<4, 3>(x), bbits_left<2, 1>(bbits<4 * C + 2, 1>(h))));
      emit(24 + u, bor(bbits<6, 3>(x), bbits_left<2, 1>(bbits<4 * C + 3, 1>(h))));
    }
  }
  template <int C>
  static inline void scales(const uint8_t* b, V16* d, V16*) {
    // 12 bytes per row: 8 with two low nibbles, 4 with four pairs of high bits
    const uint8_t* s = b;
    const V16 d0 = row_halves(b, 192);
    HOB_UNROLL for (int i = 0; i < 8; i++) {
      const B16 low = sbits<4 * C, 15>(sload(s + 16 * i)), t = sload(s + 16 * (8 + i % 4));
      const B16 high = sleft<4>(i < 4 ? sbits<4 * C, 3>(t) : sbits<4 * C + 2, 3>(t));
      d[i] = vmul(d0, vfrom_i8(ssub(sor(low, high), 32)));
    }
  }
};

// Q4_K and Q5_K: scale and minimum j of 12 bytes of 6-bit numbers.
template <int J>
inline void scale_min_k4(const uint8_t* s, B16* scale, B16* min) {
  if constexpr (J < 4) {
    *scale = sbits<0, 63>(sload(s + 16 * J));
    *min = sbits<0, 63>(sload(s + 16 * (J + 4)));
  } else {
    const B16 both = sload(s + 16 * (J + 4));
    *scale = sor(sbits<0, 15>(both), sleft<4>(sbits<6, 3>(sload(s + 16 * (J - 4)))));
    *min = sor(sbits<4, 15>(both), sleft<4>(sbits<6, 3>(sload(s + 16 * J))));
  }
}
template <int C>
inline void scales_k4(const uint8_t* b, V16* d, V16* m) {
  const V16 d0 = row_halves(b, 0), m0 = row_halves(b, 32);
  B16 scale, min;
  scale_min_k4<2 * C>(b + 64, &scale, &min);
  d[0] = vmul(d0, vfrom_u8(scale));
  m[0] = vmul(m0, vfrom_u8(min));
  scale_min_k4<2 * C + 1>(b + 64, &scale, &min);
  d[1] = vmul(d0, vfrom_u8(scale));
  m[1] = vmul(m0, vfrom_u8(min));
}

struct BlockQ4_K {
  static constexpr int kBlock = 256, kBytes = 144, kSub = 32, kChunk = 64, kZero = 0, kMaxCode = 15;
  static constexpr bool kSigned = false, kHasMin = true;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    HOB_UNROLL for (int u = 0; u < 8; u++) {
      const B64 x = bload(b + 256 + 64 * (8 * C + u));
      emit(u, bbits<0, 15>(x));
      emit(8 + u, bbits<4, 15>(x));
    }
  }
  template <int C>
  static inline void scales(const uint8_t* b, V16* d, V16* m) {
    scales_k4<C>(b, d, m);
  }
};

struct BlockQ5_K {
  static constexpr int kBlock = 256, kBytes = 176, kSub = 32, kChunk = 64, kZero = 0, kMaxCode = 31;
  static constexpr bool kSigned = false, kHasMin = true;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    HOB_UNROLL for (int u = 0; u < 8; u++) {
      const B64 h = bload(b + 256 + 128 * u);
      const B64 x = bload(C == 0 ? b + 320 + 128 * u : b + 1280 + 64 * (8 * (C - 1) + u));
      emit(u, bor(bbits<0, 15>(x), bbits_left<4, 1>(bbits<2 * C, 1>(h))));
      emit(8 + u, bor(bbits<4, 15>(x), bbits_left<4, 1>(bbits<2 * C + 1, 1>(h))));
    }
  }
  template <int C>
  static inline void scales(const uint8_t* b, V16* d, V16* m) {
    scales_k4<C>(b, d, m);
  }
};

struct BlockQ6_K {
  static constexpr int kBlock = 256, kBytes = 210, kSub = 16, kChunk = 128, kZero = 32,
                       kMaxCode = 63;
  static constexpr bool kSigned = false, kHasMin = false;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    HOB_UNROLL for (int u = 0; u < 8; u++) {
      const uint8_t* lines = b + 288 + 192 * (8 * C + u);
      const B64 x = bload(lines), y = bload(lines + 64), h = bload(lines + 128);
      emit(u, bor(bbits<0, 15>(x), bbits_left<4, 3>(h)));
      emit(8 + u, bor(bbits<0, 15>(y), bbits_left<2, 12>(h)));
      emit(16 + u, bor(bbits<4, 15>(x), bbits<0, 48>(h)));
      emit(24 + u, bor(bbits<4, 15>(y), bbits<2, 48>(h)));
    }
  }
  template <int C>
  static inline void scales(const uint8_t* b, V16* d, V16*) {
    const V16 d0 = row_halves(b, 256);
    HOB_UNROLL for (int s = 0; s < 8; s++) d[s] = vmul(d0, vfrom_i8(sload(b + 16 * (8 * C + s))));
  }
};

constexpr int8_t kTableIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};
constexpr int8_t kTableE2m1[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                   0, -1, -2, -3, -4, -6, -8, -12};  // doubled

template <class Emit>
inline void emit_table32(const uint8_t* lines, const int8_t* table, Emit&& emit) {
  HOB_UNROLL for (int u = 0; u < 4; u++) {
    const B64 x = bload(lines + 64 * u);
    emit(u, btable(bbits<0, 15>(x), table));
    emit(4 + u, btable(bbits<4, 15>(x), table));
  }
}

struct BlockIQ4_NL : Scaled32 {
  static constexpr int kBytes = 18, kZero = 0, kMaxCode = 127;
  static constexpr bool kSigned = true;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_table32(b + 32, kTableIq4, emit);
  }
};

struct BlockIQ4_XS {
  static constexpr int kBlock = 256, kBytes = 136, kSub = 32, kChunk = 32, kZero = 0,
                       kMaxCode = 127;
  static constexpr bool kSigned = true, kHasMin = false;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_table32(b + 128 + 256 * C, kTableIq4, emit);
  }
  template <int C>
  static inline void scales(const uint8_t* b, V16* d, V16*) {
    const B16 low = sbits<4 * (C % 2), 15>(sload(b + 64 + 16 * (C / 2)));
    const B16 high = sleft<4>(sbits<2 * (C % 4), 3>(sload_half<(C >= 4)>(b + 32)));
    d[0] = vmul(row_halves(b, 0), vfrom_i8(ssub(sor(low, high), 32)));
  }
};

struct BlockMXFP4 {
  static constexpr int kBlock = 32, kBytes = 17, kSub = 32, kChunk = 32, kZero = 0, kMaxCode = 12;
  static constexpr bool kSigned = true, kHasMin = false;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_table32(b + 16, kTableE2m1, emit);
  }
  template <int C>
  static inline void scales(const uint8_t* b, V16* d, V16*) {
    // 2^(e-128) as two powers of half the exponent: the two smallest are subnormal.
    const V16 e = vfrom_u8(sload(b));
    const I16 half = ifrom_f32(vmul(e, vset1(.5f))), minus_half = ifrom_f32(vmul(e, vset1(-.5f)));
    const V16 first = vscale2(vset1(1.f), iadd(half, iset1(-64)));
    d[0] = vscale2(first, iadd(iadd(ifrom_f32(e), minus_half), iset1(-64)));
  }
};

// hob's own 2 and 3 bits (tensor/blocks.h): pair s of lines is bits 2s of the two units, and line
// g's third bits are bit g of the third unit.
template <class Emit>
inline void emit_twos32(const uint8_t* lines, Emit&& emit) {
  HOB_UNROLL for (int u = 0; u < 2; u++) {
    const B64 x = bload(lines + 64 * u);
    emit(u, bbits<0, 3>(x));
    emit(2 + u, bbits<2, 3>(x));
    emit(4 + u, bbits<4, 3>(x));
    emit(6 + u, bbits<6, 3>(x));
  }
}
template <int G>
inline B64 line_of_threes(B64 low, B64 high) {
  return bor(bbits<G / 2 * 2, 3>(low), bbits_left<2, 1>(bbits<G, 1>(high)));
}
template <class Emit>
inline void emit_threes32(const uint8_t* lines, Emit&& emit) {
  const B64 even = bload(lines), odd = bload(lines + 64), h = bload(lines + 128);
  emit(0, line_of_threes<0>(even, h));
  emit(1, line_of_threes<1>(odd, h));
  emit(2, line_of_threes<2>(even, h));
  emit(3, line_of_threes<3>(odd, h));
  emit(4, line_of_threes<4>(even, h));
  emit(5, line_of_threes<5>(odd, h));
  emit(6, line_of_threes<6>(even, h));
  emit(7, line_of_threes<7>(odd, h));
}

struct BlockQ2_1 : ScaledMin32 {
  static constexpr int kBytes = 12, kZero = 0, kMaxCode = 3;
  static constexpr bool kSigned = false;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_twos32(b + 64, emit);
  }
};

struct BlockQ3_0 : Scaled32 {
  static constexpr int kBytes = 14, kZero = 4, kMaxCode = 7;
  static constexpr bool kSigned = false;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_threes32(b + 32, emit);
  }
};

// Groups with a zero point: f16 scales of the 16 rows, then their zero points, a byte each. The
// minimum scale * zero is exact in f32.
template <bool kSignedCodes>
struct Zeroed32 {
  static constexpr int kBlock = 32, kSub = 32, kChunk = 32, kZero = 0;
  static constexpr bool kHasMin = true, kSigned = kSignedCodes;
  template <int C>
  static inline void scales(const uint8_t* b, V16* d, V16* m) {
    const B16 z = sload(b + 32);
    d[0] = row_halves(b, 0);
    m[0] = vmul(d[0], kSignedCodes ? vfrom_i8(z) : vfrom_u8(z));
  }
};

struct BlockG2 : Zeroed32<false> {
  static constexpr int kBytes = 11, kMaxCode = 3;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_twos32(b + 48, emit);
  }
};

struct BlockG3 : Zeroed32<false> {
  static constexpr int kBytes = 15, kMaxCode = 7;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_threes32(b + 48, emit);
  }
};

struct BlockG4 : Zeroed32<false> {
  static constexpr int kBytes = 19, kMaxCode = 15;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    emit_nibbles32(b + 48, emit);
  }
};

struct BlockG8 : Zeroed32<true> {
  static constexpr int kBytes = 35, kMaxCode = 128;
  template <int C, class Emit>
  static inline void chunk(const uint8_t* b, Emit&& emit) {
    HOB_UNROLL for (int u = 0; u < 8; u++) emit(u, bload(b + 48 + 64 * u));
  }
};
