#pragma once
#include <string>

#include "format/model_file.h"

namespace hob {

// A model by its path: a GGUF file, or a folder with config.json and *.safetensors, which runs as
// it is. Where a packed layer has its inputs in another order (GPTQ's act-order), a tensor
// `X.order` beside `X.weight` says which (bind.cc). Throws Error with one clear line.
ModelFile open_model_file(const std::string& path);

// The same as `hob convert` would write it: types that GGUF files have, and all of a tokenizer that
// one can hold. `unpacked`: quantised layers of a folder, read back as F16.
struct WritableModel {
  ModelFile file;
  bool unpacked = false;
};
WritableModel open_writable_model(const std::string& path);

}  // namespace hob
