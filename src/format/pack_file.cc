#include "format/pack_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/align.h"
#include "base/error.h"
#include "base/hash.h"
#include "format/file_io.h"
#include "format/gguf_parse.h"

namespace hob {
namespace {

// The index of a model with 100 layers of 512 experts has 5 MB. Sections are small tables.
constexpr uint64_t kMaxIndexBytes = 64 << 20;

uint64_t hash_of(const PackPrologue& p) {
  return hash64(std::as_bytes(std::span(&p, 1)).first(offsetof(PackPrologue, prologue_hash)));
}

std::string layout_of(const PackPrologue& p) {
  return {p.layout, strnlen(p.layout, sizeof p.layout)};
}

PackPrologue read_prologue(const ByteSource& source, std::string_view label) {
  PackPrologue p;
  const PackPrologue expected;
  if (source.size() < kPackAlign)
    fail(Code::kDataLoss, "[pack] {}: truncated: expected a page of {} bytes, the file has {}",
         label, kPackAlign, source.size());
  source.read(0, std::as_writable_bytes(std::span(&p, 1)));
  constexpr std::array<char, 8> kUnfinished{};
  if (std::memcmp(p.magic, kUnfinished.data(), sizeof p.magic) == 0)
    fail(Code::kDataLoss,
         "[pack] {}: expected a finished pack, this one was interrupted while it was written: run "
         "the same 'hob pack' again",
         label);
  if (std::memcmp(p.magic, expected.magic, sizeof p.magic) != 0)
    fail(Code::kDataLoss, "[pack] {}: expected a pack file, it starts with \"{}\"", label,
         printable({p.magic, sizeof p.magic}));
  // Before the hash: another version may compute it differently.
  if (p.version != kPackVersion)
    fail(Code::kUnimplemented, "[pack] {}: expected version {}, file has {}{}", label, kPackVersion,
         p.version, p.version > kPackVersion ? " (a newer hob made it)" : "");
  if (hash_of(p) != p.prologue_hash)
    fail(Code::kDataLoss, "[pack] {}: expected header hash {:016x}, its bytes have {:016x}", label,
         p.prologue_hash, hash_of(p));
  if (layout_of(p) != kPackLayout)
    fail(Code::kUnimplemented,
         "[pack] {}: expected slab layout {}, file has {}: pack the model again", label,
         kPackLayout, printable(layout_of(p)));
  if (p.flags != 0)
    fail(Code::kUnimplemented, "[pack] {}: expected no flags, file has {:#x}", label, p.flags);
  return p;
}

}  // namespace

PackPrologue make_pack_prologue(std::string_view index_bytes, uint64_t index_offset) {
  PackPrologue p;
  std::copy(kPackLayout.begin(), kPackLayout.end(), p.layout);
  p.index_offset = index_offset;
  p.index_bytes = index_bytes.size();
  p.index_hash = hash64(std::as_bytes(std::span(index_bytes)));
  p.prologue_hash = hash_of(p);
  return p;
}

PackIndex parse_pack(const ByteSource& source, std::string_view raw_label) {
  const std::string label = printable(raw_label);
  const PackPrologue p = read_prologue(source, label);
  if (p.index_offset < kPackAlign || p.index_offset % kPackAlign != 0 ||
      p.index_bytes > kMaxIndexBytes)
    fail(Code::kDataLoss,
         "[pack] {}: expected an index of at most {} bytes on a page of its own, file has {} at {}",
         label, kMaxIndexBytes, p.index_bytes, p.index_offset);
  if (p.index_offset > source.size() || p.index_bytes > source.size() - p.index_offset)
    fail(Code::kDataLoss,
         "[pack] {}: truncated: its index needs {} bytes at byte {}, the file has {} bytes", label,
         p.index_bytes, p.index_offset, source.size());
  std::vector<std::byte> bytes(static_cast<size_t>(p.index_bytes));
  source.read(p.index_offset, bytes);
  if (const uint64_t hash = hash64(bytes); hash != p.index_hash)
    fail(Code::kDataLoss, "[pack] {}: expected index hash {:016x}, its bytes have {:016x}", label,
         p.index_hash, hash);
  return parse_pack_index(bytes, p.index_offset, label);
}

PackFile PackFile::open(const std::string& path) {
  PackFile pack;
  pack.path_ = path;
  pack.index_ = parse_pack(FileSource(path), path);
  return pack;
}

bool looks_like_pack(const std::string& path) {
  try {
    const FileSource source(path);
    PackPrologue p;
    std::array<char, sizeof p.magic> start{};
    if (source.size() < start.size()) return false;
    source.read(0, std::as_writable_bytes(std::span(start)));
    return std::memcmp(start.data(), p.magic, start.size()) == 0;
  } catch (const Error&) {
    return false;
  }
}

std::string default_pack_path(const ModelFile& model) {
  return model.files().front() + std::string(kPackExtension);
}

void replace_pack_sections(const std::string& path, std::vector<PackSection> sections) {
  PackIndex index = PackFile::open(path).index();
  index.sections = std::move(sections);
  const std::string bytes = serialise_pack_index(index);
  const OutputFd file(path, O_WRONLY);
  const uint64_t offset = round_up(file.size(), kPackAlign);
  const PackPrologue prologue = make_pack_prologue(bytes, offset);
  file.write_at(offset, std::as_bytes(std::span(bytes)));
  file.sync();
  file.write_at(0, std::as_bytes(std::span(&prologue, 1)));
  file.sync();
}

}  // namespace hob
