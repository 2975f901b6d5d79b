#include "format/pack_index.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "format/byte_source.h"

namespace hob {
namespace {

// hob's own bounds, far above any model: they keep products of untrusted numbers inside 64 bits.
constexpr uint32_t kMaxDim = 1 << 24;
constexpr uint32_t kMaxExperts = 1 << 16;
constexpr uint32_t kMaxNameBytes = 4096;

constexpr size_t kFileBytes = 3 * 8, kLayerBytes = 4, kSlabBytes = 3 * 8, kSectionBytes = 4 + 1 + 8;

// hob's own types too, unlike find_dtype(): low copies may have them.
const DTypeInfo* find_type(uint32_t number) {
  for (const DTypeInfo& row : dtype_table())
    if (static_cast<uint32_t>(row.type) == number) return &row;
  return nullptr;
}

class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::string_view label) : bytes_(bytes), label_(label) {}

  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail(Code::kDataLoss, "[pack] {}: {}", label_,
         fmt::format(format, std::forward<Args>(args)...));
  }
  size_t left() const { return bytes_.size() - at_; }
  // Throws unless `n` elements are still there, before anything is allocated for them.
  void need(uint64_t n, uint64_t element_bytes, std::string_view what) const {
    if (n > left() / element_bytes)
      bad("expected {} x {} bytes of {} at byte {} of the index, it has {} bytes", n, element_bytes,
          what, at_, bytes_.size());
  }
  template <class T>
  T get(std::string_view what) {
    need(1, sizeof(T), what);
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string bytes(uint64_t n, std::string_view what) {
    need(n, 1, what);
    std::string out(reinterpret_cast<const char*>(bytes_.data() + at_), static_cast<size_t>(n));
    at_ += static_cast<size_t>(n);
    return out;
  }
  std::string name(std::string_view what) {
    const auto n = get<uint32_t>(what);
    if (n == 0 || n > kMaxNameBytes)
      bad("{}: expected 1 to {} bytes, file has {}", what, kMaxNameBytes, n);
    return bytes(n, what);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view label_;
  size_t at_ = 0;
};

class IndexParser {
 public:
  IndexParser(std::span<const std::byte> bytes, uint64_t slabs_end, std::string_view label)
      : in_(bytes, label), slabs_end_(slabs_end) {}

  PackIndex run() {
    read_model();
    const auto n_layers = in_.get<uint32_t>("layer count");
    in_.need(n_layers, kLayerBytes, "layers");
    index_.layers.resize(n_layers);
    for (size_t i = 0; i < index_.layers.size(); i++) {
      where_ = fmt::format("blk.{}", i);
      read_layer(index_.layers[i]);
    }
    read_sections();
    if (in_.left() > 0) in_.bad("expected the end of the index, it has {} more bytes", in_.left());
    return std::move(index_);
  }

 private:
  void read_model() {
    index_.model.name = in_.name("model name");
    const auto n_files = in_.get<uint32_t>("file count");
    in_.need(n_files, kFileBytes, "files");
    for (uint32_t i = 0; i < n_files; i++) {
      ModelFingerprint::File file;
      file.n_bytes = in_.get<uint64_t>("file size");
      file.header_hash = in_.get<uint64_t>("header hash");
      file.experts_hash = in_.get<uint64_t>("experts hash");
      index_.model.files.push_back(file);
    }
  }

  void read_layer(PackLayer& layer) {
    const auto n_experts = in_.get<uint32_t>(where_);
    if (n_experts == 0) return;
    if (n_experts > kMaxExperts)
      in_.bad("{}: expected at most {} experts, file has {}", where_, kMaxExperts, n_experts);
    layer.n_experts = static_cast<int>(n_experts);
    const auto present = in_.get<uint32_t>(where_);
    if (present < 1 || present > 3)
      in_.bad("{}: expected copies 1 (high), 2 (low) or 3 (both), file has {}", where_, present);
    for (const PackPrecision p : kPackPrecisions)
      if (present >> p & 1) read_copy(layer.copies[p], n_experts);
  }

  void read_copy(PackCopy& copy, uint32_t n_experts) {
    uint64_t stock_bytes = 0;
    for (PackPart& part : copy.parts) stock_bytes += read_part(part);
    in_.need(n_experts, kSlabBytes, "slabs");
    copy.slabs.reserve(n_experts);
    for (uint32_t e = 0; e < n_experts; e++) {
      PackSlab slab;
      slab.offset = in_.get<uint64_t>("slab offset");
      slab.n_bytes = in_.get<uint64_t>("slab size");
      slab.hash = in_.get<uint64_t>("slab hash");
      check_slab(slab, e, stock_bytes);
      copy.slabs.push_back(slab);
    }
  }

  uint64_t read_part(PackPart& part) {
    const auto type = in_.get<uint32_t>("element type");
    const auto rows = in_.get<uint32_t>("rows"), cols = in_.get<uint32_t>("columns");
    const DTypeInfo* info = find_type(type);
    if (!info) in_.bad("{}: expected an element type that hob has, file has {}", where_, type);
    if (rows == 0 || rows > kMaxDim || cols == 0 || cols > kMaxDim)
      in_.bad("{}: expected dimensions of 1 to {}, file has [{},{}]", where_, kMaxDim, rows, cols);
    if (cols % static_cast<uint32_t>(info->block) != 0)
      in_.bad("{}: expected rows of a multiple of {} elements ({}), file has {}", where_,
              info->block, info->name, cols);
    part = {info->type, static_cast<int>(rows), static_cast<int>(cols)};
    return row_bytes(info->type, cols) * rows;
  }

  void check_slab(const PackSlab& slab, uint32_t expert, uint64_t stock_bytes) const {
    if (slab.offset % kPackAlign != 0 || slab.n_bytes % kPackAlign != 0)
      in_.bad("{} expert {}: expected whole pages of {} bytes, file has {} bytes at {}", where_,
              expert, kPackAlign, slab.n_bytes, slab.offset);
    if (slab.n_bytes < stock_bytes)
      in_.bad("{} expert {}: expected a slab of at least {} bytes, file has {}", where_, expert,
              stock_bytes, slab.n_bytes);
    if (slab.offset < kPackAlign || slab.offset > slabs_end_ ||
        slab.n_bytes > slabs_end_ - slab.offset)
      in_.bad("{} expert {}: expected a slab between bytes {} and {}, file has {} bytes at {}",
              where_, expert, kPackAlign, slabs_end_, slab.n_bytes, slab.offset);
  }

  void read_sections() {
    std::set<std::string, std::less<>> names;
    const auto n = in_.get<uint32_t>("section count");
    in_.need(n, kSectionBytes, "sections");
    for (uint32_t i = 0; i < n; i++) {
      PackSection section;
      section.name = in_.name("section name");
      const auto n_bytes = in_.get<uint64_t>("section size");
      section.bytes = in_.bytes(n_bytes, "a section");
      if (!names.insert(section.name).second)
        in_.bad("section {} appears twice", printable(section.name));
      index_.sections.push_back(std::move(section));
    }
  }

  Cursor in_;
  uint64_t slabs_end_;
  PackIndex index_;
  std::string where_;  // the layer, for errors
};

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_name(std::string& out, std::string_view name) {
  HOB_CHECK(!name.empty() && name.size() <= kMaxNameBytes);
  put(out, static_cast<uint32_t>(name.size()));
  out += name;
}

void put_copy(std::string& out, const PackCopy& copy) {
  for (const PackPart& part : copy.parts) {
    put(out, static_cast<uint32_t>(part.dtype));
    put(out, static_cast<uint32_t>(part.rows));
    put(out, static_cast<uint32_t>(part.cols));
  }
  for (const PackSlab& slab : copy.slabs) {
    put(out, slab.offset);
    put(out, slab.n_bytes);
    put(out, slab.hash);
  }
}

}  // namespace

const PackSection* PackIndex::find_section(std::string_view name) const {
  for (const PackSection& s : sections)
    if (s.name == name) return &s;
  return nullptr;
}

void PackIndex::set_section(std::string name, std::string bytes) {
  for (PackSection& s : sections) {
    if (s.name != name) continue;
    s.bytes = std::move(bytes);
    return;
  }
  sections.push_back({std::move(name), std::move(bytes)});
}

bool PackIndex::has(PackPrecision precision) const { return slab_bytes(precision) > 0; }

uint64_t PackIndex::slab_bytes(PackPrecision precision) const {
  uint64_t n = 0;
  for (const PackLayer& layer : layers)
    for (const PackSlab& slab : layer.copies[precision].slabs) n += slab.n_bytes;
  return n;
}

std::vector<PackSlabId> slab_order(const PackIndex& index) {
  std::vector<PackSlabId> order;
  for (size_t i = 0; i < index.layers.size(); i++)
    for (const PackPrecision p : kPackPrecisions)
      for (size_t e = 0; e < index.layers[i].copies[p].slabs.size(); e++)
        order.push_back({static_cast<int>(i), p, static_cast<int>(e)});
  return order;
}

std::string slab_name(const PackSlabId& id) {
  return fmt::format("blk.{} expert {} ({})", id.layer, id.expert,
                     id.precision == kPackHigh ? "high" : "low");
}

std::string serialise_pack_index(const PackIndex& index) {
  std::string out;
  put_name(out, index.model.name);
  put(out, static_cast<uint32_t>(index.model.files.size()));
  for (const ModelFingerprint::File& file : index.model.files) {
    put(out, file.n_bytes);
    put(out, file.header_hash);
    put(out, file.experts_hash);
  }
  put(out, static_cast<uint32_t>(index.layers.size()));
  for (const PackLayer& layer : index.layers) {
    put(out, static_cast<uint32_t>(layer.n_experts));
    if (layer.n_experts == 0) continue;
    uint32_t present = 0;
    for (const PackPrecision p : kPackPrecisions) {
      const size_t n = layer.copies[p].slabs.size();
      HOB_CHECK(n == 0 || n == static_cast<size_t>(layer.n_experts));
      if (n > 0) present |= 1u << p;
    }
    put(out, present);
    for (const PackPrecision p : kPackPrecisions)
      if (present >> p & 1) put_copy(out, layer.copies[p]);
  }
  put(out, static_cast<uint32_t>(index.sections.size()));
  for (const PackSection& s : index.sections) {
    put_name(out, s.name);
    put(out, static_cast<uint64_t>(s.bytes.size()));
    out += s.bytes;
  }
  return out;
}

PackIndex parse_pack_index(std::span<const std::byte> bytes, uint64_t slabs_end,
                           std::string_view label) {
  return IndexParser(bytes, slabs_end, label).run();
}

}  // namespace hob
