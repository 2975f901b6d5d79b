#pragma once
// The container of a pack: page 0 with the prologue, slabs, and the index at the end. Ref:
// docs/pack_format.md.
#include <cstdint>
#include <string>
#include <string_view>

#include "format/byte_source.h"
#include "format/model_file.h"
#include "format/pack_index.h"

namespace hob {

inline constexpr uint32_t kPackVersion = 1;
// How a slab's bytes are arranged: the kernels' panels of 16 rows (docs/adr/0003), the parts at
// multiples of 64 bytes (experts/expert_layout.h). Another arrangement gets another id.
inline constexpr std::string_view kPackLayout = "R16/1";
inline constexpr std::string_view kPackExtension = ".hobpack";

// Page 0, the rest of it zero. It is written last: a file without it is no pack.
struct PackPrologue {
  char magic[8] = {'H', 'O', 'B', 'P', 'A', 'C', 'K', '\n'};
  uint32_t version = kPackVersion;
  uint32_t flags = 0;    // none yet; a reader refuses those that it does not know
  char layout[16] = {};  // kPackLayout, padded with zeros
  uint64_t index_offset = 0;
  uint64_t index_bytes = 0;
  uint64_t index_hash = 0;
  uint64_t prologue_hash = 0;  // of the bytes before it
};
static_assert(sizeof(PackPrologue) == 64);

// The prologue that goes with an index at `index_offset`.
PackPrologue make_pack_prologue(std::string_view index_bytes, uint64_t index_offset);

PackIndex parse_pack(const ByteSource& source, std::string_view label);

class PackFile {
 public:
  // Reads prologue and index. Throws Error with one clear line for everything that is wrong.
  static PackFile open(const std::string& path);

  const std::string& path() const { return path_; }
  const PackIndex& index() const { return index_; }

 private:
  std::string path_;
  PackIndex index_;
};

// True when `path` starts as a pack does. False also when it cannot be read.
bool looks_like_pack(const std::string& path);
// Where `hob pack` puts the pack of a model and the other commands look for it: beside its first
// file.
std::string default_pack_path(const ModelFile& model);

// Replaces the sections of a finished pack: the new index is appended, then the prologue switched
// to it, so that a crash leaves the old or the new one.
void replace_pack_sections(const std::string& path, std::vector<PackSection> sections);

}  // namespace hob
