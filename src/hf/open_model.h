#pragma once
#include <string>

#include "format/model_file.h"

namespace hob {

// A model by its path: a GGUF file, or a folder with config.json and *.safetensors, which runs as
// it is. Throws Error with one clear line.
ModelFile open_model_file(const std::string& path);

}  // namespace hob
