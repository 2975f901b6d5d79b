#pragma once
// GGUF v2/v3 reader. Ref: research notes, serving §3.1 (container) and §5.1 (what went wrong
// elsewhere). Reads only headers; tensor bytes are read by whoever needs them, from
// `files()[tensor.file]` at `tensor.offset`.
#include <string>

#include "format/model_file.h"

namespace hob {

// Opens `path`; when it is a shard (`-00001-of-0000N.gguf`, split.count > 1) opens and checks all
// shards. Throws Error with one clear line for everything that is wrong with the file.
ModelFile open_gguf(const std::string& path);

}  // namespace hob
