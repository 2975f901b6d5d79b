#include "hf/open_model.h"

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "format/gguf.h"
#include "hf/hf_checkpoint.h"

namespace hob {
namespace {

// What was read of the ranges.
class FromMemory : public HfFetch {
 public:
  FromMemory(const std::vector<HfSourceRange>& ranges, std::span<const std::byte* const> read)
      : ranges_(ranges), read_(read) {}

  void read(const SafeTensor& source, uint64_t offset, std::span<std::byte> dst) const override {
    const std::byte* from = find(source, offset, dst.size());
    HOB_CHECK(from != nullptr);  // find_hf_ranges() covers what is fetched
    std::memcpy(dst.data(), from, dst.size());
  }
  std::span<const std::byte> view(const SafeTensor& source) const override {
    const std::byte* from = find(source, 0, source.n_bytes);
    return {from, from ? static_cast<size_t>(source.n_bytes) : 0};
  }

 private:
  const std::byte* find(const SafeTensor& source, uint64_t offset, uint64_t n_bytes) const {
    for (size_t i = 0; i < ranges_.size(); i++) {
      const HfSourceRange& r = ranges_[i];
      if (r.source == &source && offset >= r.offset && offset - r.offset + n_bytes <= r.n_bytes)
        return read_[i] + (offset - r.offset);
    }
    return nullptr;
  }

  const std::vector<HfSourceRange>& ranges_;
  const std::span<const std::byte* const> read_;
};

// The checkpoint's tensors for whoever reads the files himself.
class CheckpointRows : public RowMaker {
 public:
  explicit CheckpointRows(HfCheckpoint checkpoint) : checkpoint_(std::move(checkpoint)) {}

  std::optional<ByteRange> place(size_t tensor, int64_t first, int64_t n) const override {
    const HfTensor& t = at(tensor);
    const std::optional<HfPlace> place = find_hf_rows(t, first, n);
    if (!place) return std::nullopt;
    return ByteRange{place->file, place->offset, static_cast<uint64_t>(n) * t.row_bytes()};
  }

  std::vector<ByteRange> ranges(size_t tensor, int64_t first, int64_t n) const override {
    std::vector<ByteRange> out;
    for (const HfSourceRange& r : find_hf_ranges(at(tensor), first, n))
      out.push_back({r.source->file, r.source->offset + r.offset, r.n_bytes});
    return out;
  }

  void make(size_t tensor, int64_t first, int64_t n, std::span<const std::byte* const> read,
            std::byte* dst) const override {
    const HfTensor& t = at(tensor);
    const std::vector<HfSourceRange> ranges = find_hf_ranges(t, first, n);
    HOB_CHECK(read.size() == ranges.size());
    make_hf_rows(FromMemory(ranges, read), t, first, n,
                 {dst, static_cast<size_t>(n) * t.row_bytes()});
  }

  const std::vector<HfTensor>& tensors() const { return checkpoint_.tensors(); }

  int64_t piece_rows(size_t tensor) const override { return hf_piece_rows(at(tensor)); }

 private:
  const HfTensor& at(size_t tensor) const { return checkpoint_.tensors()[tensor]; }

  const HfCheckpoint checkpoint_;
};

// config.json is the last file: a pack of another configuration is one of another model.
WritableModel open_folder(const std::string& dir, bool for_file) {
  HfCheckpoint checkpoint = HfCheckpoint::open(dir, HfOutType::kAuto, for_file);
  const bool unpacked = checkpoint.unpacked();
  Metadata metadata = checkpoint.metadata();
  std::vector<std::string> files = checkpoint.files();
  files.push_back((std::filesystem::path(dir) / "config.json").string());
  const uint64_t total_bytes = checkpoint.total_bytes();
  auto rows = std::make_shared<const CheckpointRows>(std::move(checkpoint));
  std::vector<RawTensor> tensors;
  for (size_t i = 0; i < rows->tensors().size(); i++) {
    const HfTensor& t = rows->tensors()[i];
    RawTensor raw{t.name,      t.dtype, t.shape,
                  kMadeTensor, i,       static_cast<uint64_t>(t.shape.rows()) * t.row_bytes()};
    if (const auto place = rows->place(i, 0, t.shape.rows())) {
      raw.file = place->file;
      raw.offset = place->offset;
    }
    tensors.push_back(std::move(raw));
  }
  return {{std::move(metadata), std::move(tensors), std::move(files), total_bytes, std::move(rows)},
          unpacked};
}

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

}  // namespace

ModelFile open_model_file(const std::string& path) {
  if (is_folder(path)) return open_folder(path, /*for_file=*/false).file;
  const std::filesystem::path p(path);
  if (p.extension() == ".safetensors" || p.filename() == "config.json")
    fail(Code::kInvalidArgument,
         "[hf] {}: expected a GGUF file or the folder that holds config.json and *.safetensors, "
         "this is one of its files",
         printable(path));
  return open_gguf(path);
}

WritableModel open_writable_model(const std::string& path) {
  if (is_folder(path)) return open_folder(path, /*for_file=*/true);
  return {open_model_file(path), false};
}

}  // namespace hob
