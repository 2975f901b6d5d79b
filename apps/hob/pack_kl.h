#pragma once
// The KL table of a pack: measured by `hob pack --calibration`, printed by it and by `hob show`.
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "engine/kl_table.h"
#include "format/pack_index.h"
#include "options.h"

namespace hob::app {

// Runs `text` (its first n_tok tokens) through every setting and writes the table into the pack. A
// text of less than one window: a note, and nothing else. `check` may throw to stop; the pack is
// whole at every moment.
void add_kl_table(const CommonOptions& common, const std::string& pack, const std::string& text,
                  int n_tok, const std::function<void()>& check);

std::optional<KlTable> kl_table_of(const PackIndex& index, const std::string& path);
void print_kl_table(const KlTable& table);
nlohmann::ordered_json kl_table_json(const KlTable& table);

}  // namespace hob::app
