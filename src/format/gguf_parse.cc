#include "format/gguf_parse.h"

#include <limits>
#include <set>
#include <string>
#include <utility>

#include "base/align.h"
#include "base/error.h"
#include "format/byte_reader.h"

namespace hob {
namespace {

// Bound on the decoded size of metadata and tensor list. A sparse file can claim gigabytes of
// vocabulary without holding them; the largest real vocabularies (256k tokens) decode to about 30
// MiB.
constexpr uint64_t kMaxDecodedBytes = 256u << 20;

// Smallest encodings: key length, one byte of key, type, one byte of value; name length, one byte,
// n_dims, one dimension, type, offset.
constexpr uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

class Parser {
 public:
  Parser(const ByteSource& source, std::string_view label)
      : label_(printable(label)), reader_(source, label_) {
    shard_.n_bytes = source.size();
  }

  GgufShard run() {
    read_header();
    for (uint64_t i = 0; i < n_kv_; i++) read_key_value();
    for (uint64_t i = 0; i < n_tensors_; i++) read_tensor();
    place_tensors();
    return std::move(shard_);
  }

 private:
  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail(Code::kDataLoss, "[gguf] {}: {}", label_,
         fmt::format(format, std::forward<Args>(args)...));
  }

  // Accounts for memory about to be allocated.
  void charge(uint64_t n, uint64_t element_bytes, std::string_view what) {
    if (n > (kMaxDecodedBytes - decoded_bytes_) / element_bytes) {
      fail(Code::kUnimplemented, "[gguf] {}: {} takes the header over hob's limit of {} MiB",
           label_, what, kMaxDecodedBytes >> 20);
    }
    decoded_bytes_ += n * element_bytes;
  }

  void read_header() {
    if (reader_.remaining() == 0) bad("the file is empty");
    char magic[4];
    reader_.read(magic, sizeof magic, "magic");
    if (std::string_view(magic, 4) != "GGUF") {
      bad("expected a GGUF file, it starts with \"{}\"", printable({magic, 4}));
    }
    const auto version = reader_.get<uint32_t>("version");
    if (version != 0 && (version & 0xFFFF) == 0) bad("big-endian files are not supported");
    if (version != 2 && version != 3) {
      fail(Code::kUnimplemented, "[gguf] {}: expected version 2 or 3, file has {}", label_,
           version);
    }
    n_tensors_ = read_count("tensor count", kMinTensorBytes);
    n_kv_ = read_count("key count", kMinKeyValueBytes);
  }

  uint64_t read_count(std::string_view what, uint64_t min_bytes) {
    const auto n = reader_.get<int64_t>(what);
    if (n < 0) bad("expected a {} of 0 or more, file has {}", what, n);
    reader_.need(static_cast<uint64_t>(n), min_bytes, what);
    return static_cast<uint64_t>(n);
  }

  std::string read_string(std::string_view what, uint64_t max_bytes) {
    const auto n = reader_.get<uint64_t>(what);
    if (n > max_bytes) bad("{}: expected at most {} bytes, file has {}", what, max_bytes, n);
    reader_.need(n, 1, what);
    charge(n + sizeof(std::string), 1, what);
    std::string text(static_cast<size_t>(n), '\0');
    reader_.read(text.data(), text.size(), what);
    return text;
  }

  // Keys and tensor names are printed, compared and put into paths of messages: plain text only.
  std::string read_name(std::string_view what, uint64_t max_bytes) {
    std::string name = read_string(what, max_bytes);
    if (name.empty()) bad("{} is empty", what);
    const bool control =
        std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20; });
    if (control || !is_utf8(name)) bad("{} is not text: \"{}\"", what, printable(name));
    return name;
  }

  void read_key_value() {
    constexpr uint64_t kMapNodeBytes = 64;
    const std::string key = read_name("key", kMaxKeyBytes);
    if (shard_.metadata.has(key)) bad("key {} appears twice", printable(key));
    key_ = fmt::format("key {}", printable(key));
    charge(1, kMapNodeBytes + sizeof(MetaValue) + key.size(), key_);
    const auto type = static_cast<GgufType>(reader_.get<uint32_t>(key_));
    MetaValue value = type == GgufType::kArray ? read_array() : read_scalar(type);
    if (key == kAlignmentKey) set_alignment(type, value);
    shard_.metadata.set(key, std::move(value));
  }

  void set_alignment(GgufType type, const MetaValue& value) {
    if (type != GgufType::kUint32)
      bad("{}: expected type 4 (uint32), file has type {}", key_, static_cast<uint32_t>(type));
    alignment_ = std::get<uint64_t>(value);
    if (!std::has_single_bit(alignment_) || alignment_ > kMaxAlignment) {
      bad("{}: expected a power of two up to {}, file has {}", key_, kMaxAlignment, alignment_);
    }
  }

  bool read_bool() {
    const auto byte = reader_.get<uint8_t>(key_);
    if (byte > 1) bad("{}: expected a bool (0 or 1), file has {}", key_, byte);
    return byte == 1;
  }

  MetaValue read_scalar(GgufType type) {
    switch (type) {
      case GgufType::kUint8:
        return uint64_t{reader_.get<uint8_t>(key_)};
      case GgufType::kInt8:
        return int64_t{reader_.get<int8_t>(key_)};
      case GgufType::kUint16:
        return uint64_t{reader_.get<uint16_t>(key_)};
      case GgufType::kInt16:
        return int64_t{reader_.get<int16_t>(key_)};
      case GgufType::kUint32:
        return uint64_t{reader_.get<uint32_t>(key_)};
      case GgufType::kInt32:
        return int64_t{reader_.get<int32_t>(key_)};
      case GgufType::kFloat32:
        return double{reader_.get<float>(key_)};
      case GgufType::kBool:
        return read_bool();
      case GgufType::kString:
        return read_string(key_, kMaxDecodedBytes);
      case GgufType::kUint64:
        return reader_.get<uint64_t>(key_);
      case GgufType::kInt64:
        return reader_.get<int64_t>(key_);
      case GgufType::kFloat64:
        return reader_.get<double>(key_);
      case GgufType::kArray:
        break;
    }
    bad("{}: unknown value type {}", key_, static_cast<uint32_t>(type));
  }

  MetaValue read_array() {
    const auto type = static_cast<GgufType>(reader_.get<uint32_t>(key_));
    const auto n = reader_.get<uint64_t>(key_);
    switch (type) {
      case GgufType::kUint8:
        return read_numbers<uint8_t, int64_t>(n);
      case GgufType::kInt8:
        return read_numbers<int8_t, int64_t>(n);
      case GgufType::kUint16:
        return read_numbers<uint16_t, int64_t>(n);
      case GgufType::kInt16:
        return read_numbers<int16_t, int64_t>(n);
      case GgufType::kUint32:
        return read_numbers<uint32_t, int64_t>(n);
      case GgufType::kInt32:
        return read_numbers<int32_t, int64_t>(n);
      case GgufType::kFloat32:
        return read_numbers<float, double>(n);
      case GgufType::kBool:
        return read_numbers<bool, int64_t>(n);
      case GgufType::kString:
        return read_strings(n);
      case GgufType::kUint64:
        return read_numbers<uint64_t, int64_t>(n);
      case GgufType::kInt64:
        return read_numbers<int64_t, int64_t>(n);
      case GgufType::kFloat64:
        return read_numbers<double, double>(n);
      case GgufType::kArray:
        bad("{}: arrays of arrays are not supported", key_);
    }
    bad("{}: unknown array element type {}", key_, static_cast<uint32_t>(type));
  }

  template <class Raw, class Wide>
  std::vector<Wide> read_numbers(uint64_t n) {
    reader_.need(n, sizeof(Raw), key_);
    charge(n, sizeof(Wide), key_);
    std::vector<Wide> values;
    values.reserve(static_cast<size_t>(n));
    for (uint64_t i = 0; i < n; i++) {
      if constexpr (std::is_same_v<Raw, bool>) {
        values.push_back(read_bool());
      } else {
        const Raw raw = reader_.get<Raw>(key_);
        if constexpr (std::is_same_v<Raw, uint64_t>) {
          if (!std::in_range<int64_t>(raw)) bad("{}: element {} is above 2^63", key_, raw);
        }
        values.push_back(static_cast<Wide>(raw));
      }
    }
    return values;
  }

  std::vector<std::string> read_strings(uint64_t n) {
    reader_.need(n, sizeof(uint64_t), key_);
    charge(n, sizeof(std::string), key_);
    std::vector<std::string> values;
    values.reserve(static_cast<size_t>(n));
    for (uint64_t i = 0; i < n; i++) values.push_back(read_string(key_, kMaxDecodedBytes));
    return values;
  }

  void read_tensor() {
    RawTensor tensor{};
    tensor.name = read_name("tensor name", kMaxTensorNameBytes);
    charge(1, 2 * sizeof(RawTensor), tensor.name);
    if (!names_.insert(tensor.name).second) bad("tensor {} appears twice", tensor.name);
    tensor_ = fmt::format("tensor {}", tensor.name);
    tensor.shape = read_shape();
    const auto type_id = reader_.get<uint32_t>(tensor_);
    tensor.offset = reader_.get<uint64_t>(tensor_);  // still relative to the data section
    const DTypeInfo* info = find_dtype(type_id);
    if (info == nullptr) {
      fail(Code::kUnimplemented, "[gguf] {}: {}: expected a supported type, file has {} (id {})",
           label_, tensor_, gguf_type_name(type_id), type_id);
    }
    tensor.dtype = info->type;
    tensor.n_bytes = size_of(tensor.shape, *info);
    shard_.tensors.push_back(std::move(tensor));
  }

  Shape read_shape() {
    const auto n_dims = reader_.get<uint32_t>(tensor_);
    if (n_dims < 1 || n_dims > 4)
      bad("{}: expected 1 to 4 dimensions, file has {}", tensor_, n_dims);
    Shape shape;
    shape.n_dims = static_cast<int>(n_dims);
    int64_t n_elements = 1;
    for (size_t i = n_dims; i-- > 0;) {  // the file lists the contiguous dimension first
      const auto dim = reader_.get<int64_t>(tensor_);
      if (dim < 1) bad("{}: expected dimensions of 1 or more, file has {}", tensor_, dim);
      if (__builtin_mul_overflow(n_elements, dim, &n_elements))
        bad("{}: too many elements", tensor_);
      shape.dim[i] = dim;
    }
    return shape;
  }

  uint64_t size_of(const Shape& shape, const DTypeInfo& info) const {
    if (shape.cols() % info.block != 0) {
      bad("{}: expected rows of a multiple of {} elements ({}), file has {}", tensor_, info.block,
          info.name, shape.cols());
    }
    const int64_t n_blocks = shape.n_elements() / info.block;
    int64_t n_bytes = 0;
    if (__builtin_mul_overflow(n_blocks, int64_t{info.block_bytes}, &n_bytes)) {
      bad("{}: size of {} {} overflows", tensor_, shape.str(), info.name);
    }
    return static_cast<uint64_t>(n_bytes);
  }

  // Turns offsets in the data section into offsets in the file. Each must be the padded sum of the
  // sizes before it, which excludes overlaps, holes and overflow at once.
  void place_tensors() {
    const uint64_t data_start = round_up(reader_.position(), alignment_);
    uint64_t expected = 0;
    for (RawTensor& tensor : shard_.tensors) {
      if (tensor.offset != expected) {
        bad("tensor {}: expected offset {} (padded sum of the sizes before it), file has {}",
            tensor.name, expected, tensor.offset);
      }
      tensor.offset += data_start;
      if (tensor.offset > shard_.n_bytes || tensor.n_bytes > shard_.n_bytes - tensor.offset) {
        bad("truncated: tensor {} needs {} bytes at byte {}, the file has {} bytes", tensor.name,
            tensor.n_bytes, tensor.offset, shard_.n_bytes);
      }
      expected = round_up(tensor.offset + tensor.n_bytes - data_start, alignment_);
    }
  }

  std::string label_;
  ByteReader reader_;
  GgufShard shard_;
  uint64_t n_tensors_ = 0;
  uint64_t n_kv_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
  uint64_t decoded_bytes_ = 0;
  std::set<std::string, std::less<>> names_;  // not a hash table: crafted names would collide
  std::string key_ = "";                      // what is being read, for errors
  std::string tensor_ = "";
};

}  // namespace

GgufShard parse_gguf(const ByteSource& source, std::string_view label) {
  return Parser(source, label).run();
}

}  // namespace hob
