#include "hf/safetensors.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "format/strict_json.h"

namespace hob {
namespace {

struct TypeRow {
  SafeType type;
  std::string_view name;
  uint64_t n_bytes;
};
constexpr TypeRow kTypes[] = {
    {SafeType::kBool, "BOOL", 1},      {SafeType::kU8, "U8", 1},
    {SafeType::kI8, "I8", 1},          {SafeType::kF8E4M3, "F8_E4M3", 1},
    {SafeType::kF8E5M2, "F8_E5M2", 1}, {SafeType::kF8E8M0, "F8_E8M0", 1},
    {SafeType::kU16, "U16", 2},        {SafeType::kI16, "I16", 2},
    {SafeType::kF16, "F16", 2},        {SafeType::kBF16, "BF16", 2},
    {SafeType::kU32, "U32", 4},        {SafeType::kI32, "I32", 4},
    {SafeType::kF32, "F32", 4},        {SafeType::kU64, "U64", 8},
    {SafeType::kI64, "I64", 8},        {SafeType::kF64, "F64", 8},
};

const TypeRow& row_of(SafeType type) {
  const auto* it = std::ranges::find(kTypes, type, &TypeRow::type);
  HOB_CHECK(it != std::end(kTypes));
  return *it;
}

// The largest published checkpoints have some 40 000 tensors a file, at about ten values each.
constexpr JsonLimits kHeaderLimits{.max_depth = 4, .max_values = 2 << 20};
constexpr size_t kMaxDims = 8;

class HeaderParser {
 public:
  HeaderParser(uint64_t n_data_bytes, uint64_t data_start, std::string_view label)
      : n_data_bytes_(n_data_bytes), data_start_(data_start), label_(printable(label)) {}

  std::vector<SafeTensor> parse(std::string_view text) {
    const Json header = parse_json_object(text, kHeaderLimits, [&](const std::string& fact) {
      fail(Code::kDataLoss, "[safetensors] {}: expected a JSON object as header, {}", label_, fact);
    });
    std::vector<SafeTensor> tensors;
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__")
        check_metadata(entry);
      else
        tensors.push_back(tensor(name, entry));
    }
    check_layout(tensors);
    return tensors;
  }

 private:
  [[noreturn]] void refuse(std::string_view name, const std::string& what) const {
    fail(Code::kDataLoss, "[safetensors] {}: {}: {}", label_, printable(name), what);
  }

  void check_metadata(const Json& entry) const {
    if (!entry.is_object()) refuse("__metadata__", "expected an object, file has " + quoted(entry));
    for (const auto& [key, value] : entry.items())
      if (!value.is_string())
        refuse("__metadata__",
               fmt::format("expected strings only, \"{}\" is {}", printable(key), quoted(value)));
  }

  const Json& field(std::string_view name, const Json& entry, const char* key) const {
    const auto it = entry.find(key);
    if (it == entry.end()) refuse(name, fmt::format("expected the field {}, file has none", key));
    return *it;
  }

  SafeType dtype(std::string_view name, const Json& value) const {
    if (!value.is_string()) refuse(name, "expected a string as dtype, file has " + quoted(value));
    const auto text = value.get<std::string>();
    const auto* it = std::ranges::find(kTypes, std::string_view(text), &TypeRow::name);
    if (it == std::end(kTypes))
      fail(Code::kUnimplemented,
           "[safetensors] {}: {}: expected a known dtype (F32, F16, BF16, U8 ...), file has {}",
           label_, printable(name), quoted(value));
    return it->type;
  }

  std::vector<int64_t> shape(std::string_view name, const Json& value) const {
    std::vector<int64_t> dims;
    if (!value.is_array() || value.size() > kMaxDims)
      refuse(name, fmt::format("expected a shape of up to {} dimensions, file has {}", kMaxDims,
                               quoted(value)));
    for (const Json& item : value) {
      const std::optional<int64_t> n = item.is_number_integer() ? whole_number(item) : std::nullopt;
      if (!n || *n < 0)
        refuse(name, "expected whole numbers of 0 or more in the shape, file has " + quoted(item));
      dims.push_back(*n);
    }
    return dims;
  }

  uint64_t size_of(const SafeTensor& t) const {
    uint64_t n = bytes_of(t.dtype);
    for (const int64_t d : t.shape)
      if (__builtin_mul_overflow(n, static_cast<uint64_t>(d), &n))
        refuse(t.name, fmt::format("expected fewer elements than {} has: 64 bits overflow",
                                   t.shape_text()));
    return n;
  }

  SafeTensor tensor(const std::string& name, const Json& entry) const {
    if (name.empty()) refuse("\"\"", "expected a tensor name, it is empty");
    if (!entry.is_object()) refuse(name, "expected an object, file has " + quoted(entry));
    if (entry.size() != 3)
      refuse(name, fmt::format("expected dtype, shape and data_offsets, file has {} fields",
                               entry.size()));
    SafeTensor t{name,
                 dtype(name, field(name, entry, "dtype")),
                 shape(name, field(name, entry, "shape")),
                 0,
                 0,
                 0};
    const Json& offsets = field(name, entry, "data_offsets");
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned())
      refuse(name, "expected two whole numbers of 0 or more as data_offsets, file has " +
                       offsets.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60));
    const auto begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
    if (begin > end || end > n_data_bytes_)
      refuse(name, fmt::format("expected data_offsets in order and within {} bytes of data, file "
                               "has {} to {}",
                               n_data_bytes_, begin, end));
    t.n_bytes = size_of(t);
    if (end - begin != t.n_bytes)
      refuse(name, fmt::format("expected {} bytes for {} {}, data_offsets span {}", t.n_bytes,
                               name_of(t.dtype), t.shape_text(), end - begin));
    t.offset = data_start_ + begin;
    return t;
  }

  // Every byte of the data belongs to exactly one tensor.
  void check_layout(std::vector<SafeTensor>& tensors) const {
    std::ranges::sort(tensors, [](const SafeTensor& a, const SafeTensor& b) {
      return a.offset != b.offset ? a.offset < b.offset : a.n_bytes < b.n_bytes;
    });
    uint64_t next = data_start_;
    for (const SafeTensor& t : tensors) {
      if (t.offset != next)
        refuse(t.name, fmt::format("expected its data at byte {}, where the tensor before ends, it "
                                   "is at byte {}: {}",
                                   next - data_start_, t.offset - data_start_,
                                   t.offset < next ? "an overlap" : "a hole"));
      next += t.n_bytes;
    }
    if (next != data_start_ + n_data_bytes_)
      fail(Code::kDataLoss, "[safetensors] {}: expected {} bytes of data, the tensors end at {}",
           label_, n_data_bytes_, next - data_start_);
  }

  uint64_t n_data_bytes_, data_start_;
  std::string label_;
};

}  // namespace

std::string_view name_of(SafeType type) { return row_of(type).name; }
uint64_t bytes_of(SafeType type) { return row_of(type).n_bytes; }

std::string SafeTensor::shape_text() const { return fmt::format("[{}]", fmt::join(shape, ",")); }

std::vector<SafeTensor> parse_safetensors(const ByteSource& source, std::string_view label) {
  uint64_t n_header = 0;
  if (source.size() < sizeof n_header)
    fail(Code::kDataLoss, "[safetensors] {}: expected at least 8 bytes, the file has {}",
         printable(label), source.size());
  source.read(0, std::as_writable_bytes(std::span(&n_header, 1)));
  if (n_header > kMaxSafetensorsHeader)
    fail(Code::kDataLoss, "[safetensors] {}: expected a header of at most {} bytes, file has {}",
         printable(label), kMaxSafetensorsHeader, n_header);
  if (n_header > source.size() - sizeof n_header)
    fail(Code::kDataLoss, "[safetensors] {}: truncated: the header needs {} bytes, the file has {}",
         printable(label), n_header, source.size() - sizeof n_header);
  std::string text(n_header, '\0');
  source.read(sizeof n_header, std::as_writable_bytes(std::span(text)));
  const uint64_t data_start = sizeof n_header + n_header;
  return HeaderParser(source.size() - data_start, data_start, label).parse(text);
}

}  // namespace hob
