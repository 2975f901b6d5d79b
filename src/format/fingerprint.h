#pragma once
// Which model a sidecar file belongs to, without reading all of its weights.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "format/model_file.h"

namespace hob {

struct ModelFingerprint {
  struct File {
    uint64_t n_bytes = 0;
    uint64_t header_hash = 0;   // of every byte before the first tensor: metadata, names, shapes
    uint64_t experts_hash = 0;  // of one page from the middle of every expert tensor
    bool operator==(const File&) const = default;
  };
  std::string name;  // for messages only: two quantisations of a model share it
  std::vector<File> files;
  uint64_t total_bytes() const;
};

// How the files of `other` differ from `own`, in words ("another size"); empty: they are the same
// model.
std::string_view difference(const ModelFingerprint& own, const ModelFingerprint& other);

// Reads the headers and a page per expert tensor: some 150 small reads for a large model. The pages
// are there because a fine-tuned model may have the very header and size of its base. Throws
// Error(kIo).
ModelFingerprint fingerprint_of(const ModelFile& model);

}  // namespace hob
