#pragma once
// What `hob serve` tells clients about a loaded model.
#include <optional>
#include <string>
#include <vector>

#include "engine/model_session.h"
#include "serve/served_model.h"

namespace hob::app {

// `names`: what clients may call it, the first is the one it is listed under; none = the file's
// name.
ModelFacts model_facts(const ModelSession& session, const std::vector<std::string>& names);

// The file name without folder, suffix and shard number.
std::string model_name_of(const std::string& path);

// By name ("chatml", "llama3", ...), or what the file's own template is; nullopt = unknown to hob.
std::optional<ChatTemplate> served_chat(const Metadata& metadata, const std::string& format);

}  // namespace hob::app
