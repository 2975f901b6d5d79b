#include "format/gguf_writer.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/align.h"
#include "base/error.h"
#include "format/atomic_file.h"

namespace hob {
namespace {

template <class T>
struct TypeOf;  // the file's number for a C++ type
template <>
struct TypeOf<uint8_t> {
  static constexpr auto kId = GgufType::kUint8;
};
template <>
struct TypeOf<int8_t> {
  static constexpr auto kId = GgufType::kInt8;
};
template <>
struct TypeOf<uint16_t> {
  static constexpr auto kId = GgufType::kUint16;
};
template <>
struct TypeOf<int16_t> {
  static constexpr auto kId = GgufType::kInt16;
};
template <>
struct TypeOf<uint32_t> {
  static constexpr auto kId = GgufType::kUint32;
};
template <>
struct TypeOf<int32_t> {
  static constexpr auto kId = GgufType::kInt32;
};
template <>
struct TypeOf<float> {
  static constexpr auto kId = GgufType::kFloat32;
};
template <>
struct TypeOf<bool> {
  static constexpr auto kId = GgufType::kBool;
};
template <>
struct TypeOf<std::string> {
  static constexpr auto kId = GgufType::kString;
};
template <>
struct TypeOf<uint64_t> {
  static constexpr auto kId = GgufType::kUint64;
};
template <>
struct TypeOf<int64_t> {
  static constexpr auto kId = GgufType::kInt64;
};
template <>
struct TypeOf<double> {
  static constexpr auto kId = GgufType::kFloat64;
};

template <class T>
void put(std::string& out, T value) {
  static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put(std::string& out, const std::string& text) {
  put(out, uint64_t{text.size()});
  out += text;
}

template <class T>
void put_value(std::string& out, const T& value) {
  put(out, TypeOf<T>::kId);
  put(out, value);
}

template <class T>
void put_value(std::string& out, const std::vector<T>& values) {
  put(out, GgufType::kArray);
  put(out, TypeOf<T>::kId);
  put(out, uint64_t{values.size()});
  for (const T& value : values) put(out, value);
}

GgufValue from_meta(const MetaValue& value) {
  const auto narrow = [](const auto& v) -> GgufValue {
    using T = std::decay_t<decltype(v)>;
    if constexpr (std::is_same_v<T, uint64_t>) {
      if (v <= std::numeric_limits<uint32_t>::max()) return static_cast<uint32_t>(v);
    } else if constexpr (std::is_same_v<T, int64_t>) {
      if (std::in_range<int32_t>(v)) return static_cast<int32_t>(v);
    } else if constexpr (std::is_same_v<T, double>) {
      return static_cast<float>(v);
    } else if constexpr (std::is_same_v<T, std::vector<double>>) {
      return std::vector<float>(v.begin(), v.end());
    } else if constexpr (std::is_same_v<T, std::vector<int64_t>>) {
      const bool fits =
          std::all_of(v.begin(), v.end(), [](int64_t x) { return std::in_range<int32_t>(x); });
      if (fits) return std::vector<int32_t>(v.begin(), v.end());
    }
    return v;
  };
  return std::visit(narrow, value);
}

}  // namespace

GgufWriter::GgufWriter(uint32_t alignment) : alignment_(alignment) {
  HOB_CHECK(std::has_single_bit(alignment) && alignment <= kMaxAlignment);
  if (alignment != kDefaultAlignment) values_.emplace_back(kAlignmentKey, alignment);
}

void GgufWriter::set(std::string_view key, GgufValue value) {
  HOB_CHECK(key != kAlignmentKey);
  if (key.empty() || key.size() > kMaxKeyBytes) {
    fail(Code::kInvalidArgument, "[gguf] expected a key of 1 to {} bytes, it has {}", kMaxKeyBytes,
         key.size());
  }
  const auto same = [&](const auto& entry) { return entry.first == key; };
  const auto it = std::find_if(values_.begin(), values_.end(), same);
  if (it != values_.end()) {
    it->second = std::move(value);
  } else {
    values_.emplace_back(key, std::move(value));
  }
}

void GgufWriter::set_all(const Metadata& metadata) {
  for (const auto& [key, value] : metadata.entries()) {
    if (key != kAlignmentKey) set(key, from_meta(value));
  }
}

void GgufWriter::add(std::string_view name, DType dtype, const Shape& shape) {
  const DTypeInfo& info = dtype_info(dtype);
  if (is_internal(dtype)) {
    fail(Code::kInvalidArgument, "[gguf] {}: {} is hob's own type, GGUF has no number for it", name,
         info.name);
  }
  const auto same = [&](const Tensor& tensor) { return tensor.name == name; };
  if (name.empty() || name.size() > kMaxTensorNameBytes) {
    fail(Code::kInvalidArgument, "[gguf] {}: expected a tensor name of 1 to {} bytes, it has {}",
         name, kMaxTensorNameBytes, name.size());
  }
  if (std::any_of(tensors_.begin(), tensors_.end(), same)) {
    fail(Code::kInvalidArgument, "[gguf] {}: this tensor is in the file already", name);
  }
  const auto dims = std::span(shape.dim).first(static_cast<size_t>(shape.n_dims));
  const bool empty = std::any_of(dims.begin(), dims.end(), [](int64_t d) { return d < 1; });
  if (dims.empty() || empty || shape.cols() % info.block != 0) {
    fail(Code::kInvalidArgument,
         "[gguf] {}: expected rows of a multiple of {} elements ({}), shape is {}", name,
         info.block, info.name, shape.str());
  }
  const uint64_t n_bytes = row_bytes(dtype, shape.n_elements());
  tensors_.push_back({std::string(name), dtype, shape, n_bytes});
}

std::string GgufWriter::header() const {
  std::string out = "GGUF";
  put(out, uint32_t{3});
  put(out, uint64_t{tensors_.size()});
  put(out, uint64_t{values_.size()});
  for (const auto& [key, value] : values_) {
    put(out, key);
    std::visit([&](const auto& v) { put_value(out, v); }, value);
  }
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    put(out, tensor.name);
    put(out, static_cast<uint32_t>(tensor.shape.n_dims));
    for (int i = tensor.shape.n_dims; i-- > 0;) put(out, tensor.shape[i]);
    put(out, tensor.dtype);
    put(out, offset);
    offset = round_up(offset + tensor.n_bytes, alignment_);
  }
  out.resize(round_up(out.size(), alignment_), '\0');
  return out;
}

void GgufWriter::write(const Sink& out, const Fill& fill) const {
  out(std::as_bytes(std::span<const char>(header())));
  const std::vector<std::byte> zeros(alignment_);
  for (const Tensor& tensor : tensors_) {
    uint64_t n_sent = 0;
    fill(tensor, [&](std::span<const std::byte> bytes) {
      n_sent += bytes.size();
      HOB_CHECK(n_sent <= tensor.n_bytes);
      out(bytes);
    });
    HOB_CHECK(n_sent == tensor.n_bytes);
    out(std::span(zeros).first(round_up(n_sent, alignment_) - n_sent));
  }
}

void GgufWriter::write(const std::string& path, const Fill& fill) const {
  AtomicFile file(path);
  write([&](std::span<const std::byte> bytes) { file.write(bytes); }, fill);
  file.commit();
}

}  // namespace hob
