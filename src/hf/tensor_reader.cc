// Rows of a tensor from the places where its sources have them.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "hf/hf_tensor.h"
#include "tensor/dequant.h"
#include "tensor/quantise.h"

namespace hob {
namespace {

using Bytes = std::vector<std::byte>;

constexpr int64_t kBlock = 32, kCodes = 16;  // MXFP4: weights in a block, bytes that hold them

// transformers: byte k holds elements 2k (low nibble) and 2k + 1; GGUF: byte j holds j and j + 16.
void reorder_nibbles(const std::byte* src, std::byte* dst) {
  const auto element = [&](int64_t i) {
    return i % 2 == 0 ? src[i / 2] & std::byte{0x0F} : src[i / 2] >> 4;
  };
  for (int64_t j = 0; j < kCodes; j++) dst[j] = element(j) | element(j + kCodes) << 4;
}

// A packed layer's rows in memory, as if the file had them: G blocks, or f32 where the tensor is of
// another type or, transposed, takes single numbers.
class UnpackedSource {
 public:
  UnpackedSource(const HfFetch& fetch, const HfTensor& tensor) : fetch_(fetch), t_(tensor) {}

  bool floats() const { return t_.map.column_items != 0 || t_.dtype != packed_type(*t_.packing); }
  DType type() const { return floats() ? DType::kF32 : packed_type(*t_.packing); }

  void copy(const SafeTensor& codes, uint64_t offset, std::span<std::byte> dst) {
    if (dst.size() == n_bytes()) return unpack(codes, dst.data());  // most often
    if (&codes != unpacked_) {
      rows_.resize(n_bytes());
      unpack(codes, rows_.data());
      unpacked_ = &codes;
    }
    std::memcpy(dst.data(), rows_.data() + offset, dst.size());
  }

 private:
  size_t n_bytes() const {
    return row_bytes(type(), t_.d_source) * static_cast<size_t>(t_.packed_rows);
  }

  void unpack(const SafeTensor& codes, std::byte* dst) {
    const HfSource& s = *std::ranges::find(t_.sources, &codes, &HfSource::data);
    PackedLinear l{.packing = *t_.packing,
                   .name = std::string_view(codes.name).substr(0, codes.name.rfind('.')),
                   .n_out = t_.packed_rows,
                   .n_in = t_.d_source,
                   .codes = whole(s.data, arrays_[0]),
                   .zeros = whole(s.zeros, arrays_[1]),
                   .scales = whole(s.scales, arrays_[2]),
                   .groups = whole(s.groups, arrays_[3]),
                   .scale_type = s.scales->dtype};
    if (!floats()) return unpack_rows(l, dst);
    std::vector<float> numbers(static_cast<size_t>(l.n_out * l.n_in));
    unpack_floats(l, numbers.data());
    std::memcpy(dst, numbers.data(), n_bytes());
  }

  std::span<const std::byte> whole(const SafeTensor* array, Bytes& bytes) const {
    if (!array) return {};
    if (const auto view = fetch_.view(*array); !view.empty()) return view;
    bytes.resize(static_cast<size_t>(array->n_bytes));
    fetch_.read(*array, 0, bytes);
    return bytes;
  }

  const HfFetch& fetch_;
  const HfTensor& t_;
  const SafeTensor* unpacked_ = nullptr;
  Bytes rows_;
  std::array<Bytes, 4> arrays_;
};

class RowReader {
 public:
  RowReader(const HfFetch& fetch, const HfTensor& tensor)
      : fetch_(fetch), t_(tensor), unpacked_(fetch, tensor) {
    const int64_t n_out = t_.shape.n_elements() / static_cast<int64_t>(t_.sources.size());
    d_item_ = t_.map.column_items ? t_.map.column_items : t_.d_source;
    n_items_ = n_out / d_item_;
    const SafeTensor& data = *t_.sources.front().data;
    if (t_.packing)
      item_bytes_ = static_cast<int64_t>(row_bytes(unpacked_.type(), t_.d_source));
    else if (t_.dtype == DType::kMXFP4)
      item_bytes_ = t_.d_source / kBlock * kCodes;
    else
      item_bytes_ = t_.d_source * static_cast<int64_t>(bytes_of(data.dtype));
  }

  void read(int64_t first_row, int64_t n_rows, std::byte* dst) {
    if (t_.dtype == DType::kMXFP4) return read_mxfp4(first_row, n_rows, dst);
    const DType from = t_.packing ? unpacked_.type() : *float_dtype(t_.sources.front().data->dtype);
    const int64_t cols = t_.shape.cols(), per_row = cols / d_item_;
    const auto read_data = [&](std::byte* out) {
      gather_all(false, first_row * per_row, n_rows * per_row, out);
    };
    if (from == t_.dtype && t_.shift == 0) return read_data(dst);
    Bytes raw(static_cast<size_t>(n_rows) * row_bytes(from, cols));
    read_data(raw.data());
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t r = 0; r < n_rows; r++) {
      dequantise_row(from, raw.data() + static_cast<size_t>(r) * row_bytes(from, cols), cols,
                     row.data());
      for (float& x : row) x += t_.shift;
      quantise_row(t_.dtype, row.data(), cols, dst + static_cast<uint64_t>(r) * t_.row_bytes());
    }
  }

 private:
  void read_mxfp4(int64_t first_row, int64_t n_rows, std::byte* dst) {
    const int64_t n_blocks = t_.d_source / kBlock;
    Bytes codes(static_cast<size_t>(n_rows * n_blocks * kCodes));
    Bytes scales(static_cast<size_t>(n_rows * n_blocks));
    gather_all(false, first_row, n_rows, codes.data());
    item_bytes_ = n_blocks;
    gather_all(true, first_row, n_rows, scales.data());
    item_bytes_ = n_blocks * kCodes;
    for (size_t i = 0; i < scales.size(); i++) {
      std::byte* block = dst + i * (kCodes + 1);
      block[0] = scales[i];
      reorder_nibbles(codes.data() + i * kCodes, block + 1);
    }
  }

  // Items [first, first + n) of the result, over all sources.
  void gather_all(bool scales, int64_t first, int64_t n, std::byte* out) {
    const int64_t out_bytes =
        t_.map.column_items ? item_bytes_ / t_.d_source * t_.map.column_items : item_bytes_;
    while (n > 0) {
      const HfSource& source = t_.sources[static_cast<size_t>(first / n_items_)];
      const int64_t at = first % n_items_, part = std::min(n, n_items_ - at);
      gather(scales ? *source.scales : *source.data, at, part, out);
      first += part;
      n -= part;
      out += part * out_bytes;
    }
  }

  void gather(const SafeTensor& source, int64_t at, int64_t n, std::byte* out) {
    const HfItemMap& m = t_.map;
    const bool plain = m.stride == 1 && !m.rotary && m.column_items == 0;
    if (plain && m.taken == m.pitch) {  // slabs touch
      read_items(source, at, n, out);
      return;
    }
    while (n > 0) {
      const int64_t slab = at / m.taken, i = at % m.taken, part = std::min(n, m.taken - i);
      if (m.column_items)
        out += columns(source, slab, i, part, out);
      else if (plain)
        out += read_items(source, slab * m.pitch + m.first + i, part, out);
      else
        out += scattered(source, slab, i, part, out);
      at += part;
      n -= part;
    }
  }

  int64_t read_items(const SafeTensor& source, int64_t item, int64_t n, std::byte* out) {
    const int64_t n_bytes = n * item_bytes_;
    const std::span<std::byte> dst(out, static_cast<size_t>(n_bytes));
    const auto offset = static_cast<uint64_t>(item * item_bytes_);
    t_.packing ? unpacked_.copy(source, offset, dst) : fetch_.read(source, offset, dst);
    return n_bytes;
  }

  // One read of the range they lie in, which is at most twice as long (a rotary head: the head).
  int64_t scattered(const SafeTensor& source, int64_t slab, int64_t i, int64_t n, std::byte* out) {
    const HfItemMap& m = t_.map;
    const int64_t low = m.rotary ? 0 : m.source_of(i);
    const int64_t high = m.rotary ? m.pitch : m.source_of(i + n - 1) + 1;
    buffer_.resize(static_cast<size_t>((high - low) * item_bytes_));
    read_items(source, slab * m.pitch + low, high - low, buffer_.data());
    for (int64_t k = 0; k < n; k++)
      std::memcpy(out + k * item_bytes_, buffer_.data() + (m.source_of(i + k) - low) * item_bytes_,
                  static_cast<size_t>(item_bytes_));
    return n * item_bytes_;
  }

  int64_t columns(const SafeTensor& source, int64_t slab, int64_t i, int64_t n, std::byte* out) {
    const HfItemMap& m = t_.map;
    const int64_t d = item_bytes_ / t_.d_source;
    buffer_.resize(static_cast<size_t>(m.column_items * item_bytes_));
    read_items(source, slab * m.pitch, m.column_items, buffer_.data());
    for (int64_t k = 0; k < n; k++)
      for (int64_t row = 0; row < m.column_items; row++)
        std::memcpy(out + (k * m.column_items + row) * d,
                    buffer_.data() + row * item_bytes_ + m.source_of(i + k) * d,
                    static_cast<size_t>(d));
    return n * m.column_items * d;
  }

  const HfFetch& fetch_;
  const HfTensor& t_;
  int64_t d_item_ = 0;      // numbers in an item of the result
  int64_t n_items_ = 0;     // of the result, from one source
  int64_t item_bytes_ = 0;  // of a source
  Bytes buffer_;
  UnpackedSource unpacked_;
};

}  // namespace

int64_t hf_piece_rows(const HfTensor& t) {
  constexpr uint64_t kPieceBytes = 4 << 20;
  if (t.packing) return t.shape.rows() / static_cast<int64_t>(t.sources.size());
  if (t.map.column_items) return t.map.taken;
  const auto fit = static_cast<int64_t>(std::max<uint64_t>(1, kPieceBytes / t.row_bytes()));
  return std::min(fit, t.shape.rows());
}

std::optional<HfPlace> find_hf_rows(const HfTensor& t, int64_t first, int64_t n) {
  HOB_CHECK(first >= 0 && n >= 1 && first + n <= t.shape.rows());
  const HfItemMap& m = t.map;
  const bool in_order = m.stride == 1 && !m.rotary && m.column_items == 0 && t.shift == 0;
  if (t.sources.empty() || t.dtype == DType::kMXFP4 || t.packing || !in_order) return std::nullopt;
  if (t.dtype != float_dtype(t.sources.front().data->dtype)) return std::nullopt;
  const int64_t per_row = t.shape.cols() / t.d_source;  // 1, but for biases
  const int64_t n_items = t.shape.rows() * per_row / static_cast<int64_t>(t.sources.size());
  const int64_t begin = first * per_row, last = (first + n) * per_row - 1;
  const int64_t at = begin % n_items, slab = at / m.taken;
  const bool one_slab = m.taken == m.pitch || slab == last % n_items / m.taken;
  if (begin / n_items != last / n_items || !one_slab) return std::nullopt;
  const SafeTensor& data = *t.sources[static_cast<size_t>(begin / n_items)].data;
  const int64_t item = slab * m.pitch + m.first + at % m.taken;
  return HfPlace{data.file,
                 data.offset + static_cast<uint64_t>(item * t.d_source) * bytes_of(data.dtype)};
}

std::vector<HfSourceRange> find_hf_ranges(const HfTensor& t, int64_t first, int64_t n) {
  HOB_CHECK(first >= 0 && n >= 1 && first + n <= t.shape.rows());
  std::vector<HfSourceRange> ranges;
  if (t.sources.empty()) return ranges;
  const HfItemMap& m = t.map;
  const int64_t d_item = m.column_items ? m.column_items : t.d_source;
  const int64_t n_items = t.shape.n_elements() / static_cast<int64_t>(t.sources.size()) / d_item;
  const int64_t per_row = t.shape.cols() / d_item;
  const bool in_order = m.stride == 1 && !m.rotary && m.column_items == 0;
  // The item of the source that item `i` of the result is, or where the slab begins or ends that
  // it is taken from.
  const auto begin_of = [&](int64_t i) {
    return i / m.taken * m.pitch + (in_order ? m.first + i % m.taken : 0);
  };
  const auto end_of = [&](int64_t i) {
    return in_order ? begin_of(i) + 1 : (i / m.taken + 1) * m.pitch;
  };
  for (int64_t at = first * per_row, end = (first + n) * per_row; at < end;) {
    const int64_t source = at / n_items, from = at % n_items;
    const int64_t to = std::min(n_items, from + end - at);
    const int64_t low = begin_of(from), high = end_of(to - 1);
    const auto add = [&](const SafeTensor& data, int64_t item_bytes) {
      ranges.push_back({&data, static_cast<uint64_t>(low * item_bytes),
                        static_cast<uint64_t>((high - low) * item_bytes)});
    };
    const HfSource& s = t.sources[static_cast<size_t>(source)];
    if (t.packing) {
      for (const SafeTensor* array : {s.data, s.zeros, s.scales, s.groups})
        if (array) ranges.push_back({array, 0, array->n_bytes});
    } else if (s.scales) {
      add(*s.data, t.d_source / kBlock * kCodes);
      add(*s.scales, t.d_source / kBlock);
    } else {
      add(*s.data, t.d_source * static_cast<int64_t>(bytes_of(s.data->dtype)));
    }
    at += to - from;
  }
  return ranges;
}

void make_hf_rows(const HfFetch& fetch, const HfTensor& t, int64_t first, int64_t n,
                  std::span<std::byte> dst) {
  HOB_CHECK(first >= 0 && n >= 0 && first + n <= t.shape.rows());
  HOB_CHECK(dst.size() == static_cast<uint64_t>(n) * t.row_bytes());
  if (n == 0) return;
  if (t.sources.empty()) {  // the tensor's own numbers, F32
    const auto* values = reinterpret_cast<const std::byte*>(t.values.data());
    std::memcpy(dst.data(), values + static_cast<uint64_t>(first) * t.row_bytes(), dst.size());
    return;
  }
  RowReader(fetch, t).read(first, n, dst.data());
}

void read_hf_rows(const SafetensorsSet& set, const HfTensor& t, int64_t first, int64_t n,
                  std::span<std::byte> dst) {
  class FromFiles : public HfFetch {
   public:
    explicit FromFiles(const SafetensorsSet& files) : files_(files) {}
    void read(const SafeTensor& source, uint64_t offset, std::span<std::byte> to) const override {
      files_.read(source, offset, to);
    }

   private:
    const SafetensorsSet& files_;
  };
  make_hf_rows(FromFiles(set), t, first, n, dst);
}

}  // namespace hob
