#include "experts/policy_table.h"

#include <string>

#include "base/error.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

constexpr PolicyRow kPolicies[] = {
    {"ewma", "evict the expert with the lowest decayed use frequency", make_ewma_policy},
    {"ewma-layer", "evict the expert whose next use, by frequency and layer, is the farthest",
     make_ewma_layer_policy},
    {"lru", "evict the expert whose last use is the longest ago", make_lru_policy},
};

}  // namespace

std::span<const PolicyRow> policy_table() { return kPolicies; }

std::unique_ptr<ExpertPolicy> make_policy(std::string_view name, const PolicyShape& shape) {
  std::string names;
  for (const PolicyRow& row : policy_table()) {
    if (row.name == name) return row.make(shape);
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  fail(Code::kInvalidArgument, "[experts] policy: expected one of {}, got '{}'", names, name);
}

}  // namespace hob
