#pragma once
// What there is to say about a pack, for `hob pack` and `hob show`.
#include <nlohmann/json.hpp>
#include <string>

#include "format/pack_index.h"

namespace hob::app {

// "Q4_K, Q6_K": the element types of a copy, in order of appearance.
std::string types_of(const PackIndex& index, PackPrecision precision);
// Bytes and types of both copies.
nlohmann::ordered_json pack_json(const PackIndex& index);

void show_pack(const std::string& path, bool json);

}  // namespace hob::app
