#include "format/fingerprint.h"

#include <algorithm>
#include <vector>

#include "base/hash.h"
#include "format/byte_source.h"

namespace hob {
namespace {

constexpr uint64_t kSampleBytes = 4096;

uint64_t hash_header(const FileSource& source, uint64_t n_bytes) {
  Hash64 hash;
  std::vector<std::byte> buffer(std::min<uint64_t>(n_bytes, 1 << 20));
  for (uint64_t at = 0; at < n_bytes; at += buffer.size()) {
    const std::span<std::byte> piece(buffer.data(),
                                     std::min<uint64_t>(buffer.size(), n_bytes - at));
    source.read(at, piece);
    hash.add(piece);
  }
  return hash.value();
}

// Of the tensor in this file; the largest number when it has none there.
uint64_t first_byte(const ModelFile& model, const RawTensor& t, int file) {
  uint64_t first = UINT64_MAX;
  if (t.file == file) first = t.offset;
  if (t.file == kMadeTensor)
    for (const ByteRange& r :
         model.maker()->ranges(static_cast<size_t>(t.offset), 0, t.shape.rows()))
      if (r.file == file) first = std::min(first, r.offset);
  return first;
}

// What a checkpoint's experts of this tensor are read or made from in this file: one row of one
// expert tells.
void add_made_sample(const ModelFile& model, const RawTensor& t, int file, const FileSource& source,
                     Hash64& hash) {
  const int64_t row = t.shape.rows() / 2;
  for (const ByteRange& r : model.maker()->ranges(static_cast<size_t>(t.offset), row, 1)) {
    if (r.file != file) continue;
    std::vector<std::byte> sample(static_cast<size_t>(std::min(kSampleBytes, r.n_bytes)));
    source.read(r.offset + (r.n_bytes - sample.size()) / 2, sample);
    hash.add(sample);
  }
}

// Expert tensors are the three-dimensional ones.
uint64_t hash_expert_samples(const ModelFile& model, int file, const FileSource& source) {
  Hash64 hash;
  std::vector<std::byte> sample(kSampleBytes);
  for (const RawTensor& t : model.tensors()) {
    if (t.shape.n_dims != 3) continue;
    if (t.file == kMadeTensor) add_made_sample(model, t, file, source, hash);
    if (t.file != file) continue;
    const uint64_t n = std::min(kSampleBytes, t.n_bytes);
    const std::span<std::byte> piece(sample.data(), n);
    source.read(t.offset + (t.n_bytes - n) / 2, piece);
    hash.add(piece);
  }
  return hash.value();
}

}  // namespace

uint64_t ModelFingerprint::total_bytes() const {
  uint64_t n = 0;
  for (const File& file : files) n += file.n_bytes;
  return n;
}

std::string_view difference(const ModelFingerprint& own, const ModelFingerprint& other) {
  if (own.files.size() != other.files.size()) return "another number of files";
  for (size_t i = 0; i < own.files.size(); i++) {
    const ModelFingerprint::File &a = own.files[i], &b = other.files[i];
    if (a.n_bytes != b.n_bytes) return "another size";
    if (a.header_hash != b.header_hash) return "other metadata or tensors";
    if (a.experts_hash != b.experts_hash) return "other weights";
  }
  return {};
}

ModelFingerprint fingerprint_of(const ModelFile& model) {
  ModelFingerprint print;
  const Metadata& metadata = model.metadata();
  print.name = metadata.find_string("general.name")
                   .value_or(metadata.find_string("general.architecture").value_or("a model"));
  for (size_t i = 0; i < model.files().size(); i++) {
    const FileSource source(model.files()[i]);
    uint64_t header_bytes = source.size();  // all of a file without tensors: config.json
    for (const RawTensor& t : model.tensors())
      header_bytes = std::min(header_bytes, first_byte(model, t, static_cast<int>(i)));
    print.files.push_back(
        {.n_bytes = source.size(),
         .header_hash = hash_header(source, header_bytes),
         .experts_hash = hash_expert_samples(model, static_cast<int>(i), source)});
  }
  return print;
}

}  // namespace hob
