// The rows of V out of a K block (latent attention), for numbers of any size. Included inside an
// anonymous namespace by tu.cc.

// Transposes a square of 16 / sizeof(E) rows: every pass interleaves the rows of the upper half with
// those of the lower one, which moves one bit of an element's row number to its column number.
template <class E, size_t... I>
inline void transpose_square(const E* from, size_t from_step, E* to, size_t to_step,
                             std::index_sequence<I...>) {
  constexpr size_t n = sizeof...(I), half = n / 2;
  using Lanes __attribute__((vector_size(16))) = E;
  Lanes rows[n], mixed[n];
  HOB_UNROLL for (size_t i = 0; i < n; i++) memcpy(&rows[i], from + i * from_step, 16);
  for (size_t pass = 1; pass < n; pass *= 2) {
    HOB_UNROLL for (size_t i = 0; i < half; i++) {
      mixed[2 * i] = __builtin_shufflevector(rows[i], rows[i + half], (I / 2 + I % 2 * n)...);
      mixed[2 * i + 1] =
          __builtin_shufflevector(rows[i], rows[i + half], (half + I / 2 + I % 2 * n)...);
    }
    HOB_UNROLL for (size_t i = 0; i < n; i++) rows[i] = mixed[i];
  }
  HOB_UNROLL for (size_t i = 0; i < n; i++) memcpy(to + i * to_step, &rows[i], 16);
}

// The first d coordinates of the 16 tokens of a K block as 16 rows.
template <class E>
inline void transpose_block(const E* block, size_t d, E* rows) {
  constexpr size_t n = 16 / sizeof(E);
  size_t c = 0;
  for (; c + n <= d; c += n)
    for (size_t t = 0; t < kKvBlock; t += n)
      transpose_square(block + c * kKvBlock + t, kKvBlock, rows + t * d + c, d,
                       std::make_index_sequence<n>{});
  for (; c < d; c++)
    for (size_t t = 0; t < kKvBlock; t++) rows[t * d + c] = block[c * kKvBlock + t];
}

template <size_t kBytes>
struct CodeOf;
template <>
struct CodeOf<1> {
  using Type = uint8_t;
};
template <>
struct CodeOf<2> {
  using Type = uint16_t;
};
template <>
struct CodeOf<4> {
  using Type = uint32_t;
};
