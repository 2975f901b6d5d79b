#include "experts/policy_table.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

constexpr PolicyRow kPolicies[] = {
    {"activation", "", "the least probable next, after the most similar past sequence",
     make_activation_policy},
    {"ewma", "", "the lowest decayed use frequency", make_ewma_policy},
    {"ewma-layer", "", "the farthest expected next use, by frequency and layer (default)",
     make_ewma_layer_policy},
    {"fld", "", "the farthest layer in the order of computation", make_fld_policy},
    {"hobbit", "LRU,LFU,LHU,FLD", "HOBBIT's weighted mix of lru, lfu, lhu and fld",
     make_hobbit_policy},
    {"lcu", "", "APEX's least cost used, with layer distance", make_lcu_policy},
    {"least-stale", "", "layers already computed in this pass first, then FIFO",
     make_least_stale_policy},
    {"lfu", "", "the fewest uses in this sequence", make_lfu_policy},
    {"lhu", "", "the fewest uses at its own precision in this sequence", make_lhu_policy},
    {"lru", "", "the last use is the longest ago", make_lru_policy},
    {"random", "SEED", "any, with equal probability", make_random_policy},
    {"static-pin", "SHARE", "the most frequent of the first steps stay, lru among the others",
     make_static_pin_policy},
};

}  // namespace

std::span<const PolicyRow> policy_table() { return kPolicies; }

std::unique_ptr<ExpertPolicy> make_policy(std::string_view spec, const PolicyShape& shape) {
  const size_t colon = std::min(spec.find(':'), spec.size());
  const std::string_view name = spec.substr(0, colon);
  const std::string_view args = spec.substr(std::min(colon + 1, spec.size()));
  std::string names;
  for (const PolicyRow& row : policy_table()) {
    names += (names.empty() ? "" : ", ") + std::string(row.name);
    if (row.name != name) continue;
    if (row.args.empty() && colon < spec.size())
      fail(Code::kInvalidArgument, "[experts] policy {}: expected no argument, got '{}'", name,
           args);
    return row.make(shape, args);
  }
  fail(Code::kInvalidArgument, "[experts] policy: expected one of {}, got '{}'", names, name);
}

void check_policy(std::string_view spec) { make_policy(spec, {1, {0}}); }

}  // namespace hob
