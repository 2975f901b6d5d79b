#pragma once
// Small valid metadata and tensor tables of every family, to be broken one detail at a time.
#include <string>
#include <vector>

#include "format/gguf.h"

namespace hob {

Metadata valid_metadata(const std::string& arch);
// What a file with this metadata must hold: made from the family's own rules.
std::vector<RawTensor> valid_tensors(const Metadata& metadata);
// A copy with other keys.
Metadata with(Metadata metadata, const std::string& key, MetaValue value);
Metadata without(const Metadata& metadata, const std::string& key);

}  // namespace hob
