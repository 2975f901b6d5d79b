// Arbitrary arrays as a packed linear layer of any layout: five bytes choose it, what follows fills
// first the groups, then scales, zero points and codes, over and over. Rows must come out with the
// same bytes from the fast and the plain way and mean what the floats are, or both must throw the
// same hob::Error.
#include <cmath>
#include <cstring>
#include <optional>
#include <span>

#include "base/error.h"
#include "hf/packed_rows.h"
#include "tensor/dequant.h"

namespace {

using hob::HfPacking;
using hob::HfPackMethod;
using Bytes = std::vector<std::byte>;

void require(bool condition) {
  if (!condition) std::abort();
}

class Source {
 public:
  explicit Source(std::span<const uint8_t> data) : data_(data) {}
  Bytes take(int64_t n) {
    Bytes out(static_cast<size_t>(n));
    for (std::byte& b : out) b = std::byte{data_[at_++ % data_.size()]};
    return out;
  }

 private:
  std::span<const uint8_t> data_;
  size_t at_ = 0;
};

template <class Unpack>
std::optional<hob::Code> error_of(const Unpack& unpack) {
  try {
    unpack();
  } catch (const hob::Error& e) {
    return e.code();
  }
  return std::nullopt;
}

void check(const hob::PackedLinear& l) {
  const hob::DType type = hob::packed_type(l.packing);
  const size_t stride = hob::row_bytes(type, l.n_in);
  Bytes fast(stride * static_cast<size_t>(l.n_out)), plain(fast.size());
  const auto error = error_of([&] { hob::unpack_rows(l, fast.data()); });
  require(error == error_of([&] { hob::unpack_rows_plain(l, plain.data()); }));
  std::vector<float> floats(static_cast<size_t>(l.n_out * l.n_in)),
      row(static_cast<size_t>(l.n_in));
  const auto float_error = error_of([&] { hob::unpack_floats(l, floats.data()); });
  if (error) return;
  require(!float_error && fast == plain);
  const std::vector<int32_t> order = hob::input_order(l);
  for (int64_t n = 0; n < l.n_out; n++) {
    hob::dequantise_row(type, fast.data() + static_cast<size_t>(n) * stride, l.n_in, row.data());
    for (size_t k = 0; k < row.size(); k++) {
      const size_t from = order.empty() ? k : static_cast<size_t>(order[k]);
      require(row[k] == floats[static_cast<size_t>(n * l.n_in) + from]);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 6) return 0;
  constexpr int kBits[] = {2, 3, 4, 8};
  HfPacking p{.method = static_cast<HfPackMethod>(data[0] % 3),
              .bits = kBits[data[1] % 4],
              .group = 32 * (1 + data[2] % 3),
              .zeros_less_one = (data[0] & 4) != 0,
              .has_zeros = true};
  if (p.method == HfPackMethod::kAwq) p.bits = 4;
  if (p.method != HfPackMethod::kGptq) p.zeros_less_one = false;
  if (p.method == HfPackMethod::kCompressedTensors) {
    p.bits = data[1] & 1 ? 4 : 8;
    p.has_zeros = (data[1] & 2) != 0;
  }
  const int64_t n_in = p.group * (1 + data[3] % 3), n_out = 32 * (1 + data[4] % 3);
  const int64_t n_groups = n_in / p.group;
  const auto scale_type = data[0] & 8    ? hob::SafeType::kF16
                          : data[0] & 16 ? hob::SafeType::kBF16
                                         : hob::SafeType::kF32;
  Source source({data + 5, size - 5});
  const Bytes groups = source.take(data[0] & 32 ? 4 * n_in : 0);
  const Bytes scales = source.take(static_cast<int64_t>(bytes_of(scale_type)) * n_out * n_groups);
  const Bytes zeros = source.take(p.has_zeros ? n_out * n_groups * p.bits / 8 : 0);
  const Bytes codes = source.take(n_out * n_in * p.bits / 8);
  check({.packing = p,
         .name = "fuzz",
         .n_out = n_out,
         .n_in = n_in,
         .codes = codes,
         .zeros = zeros,
         .scales = scales,
         .groups = groups,
         .scale_type = scale_type});
  return 0;
}
