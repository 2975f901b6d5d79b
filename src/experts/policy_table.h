#pragma once
#include <memory>
#include <span>
#include <string_view>

#include "experts/policy.h"

namespace hob {

struct PolicyRow {
  std::string_view name;
  std::string_view args;  // form of what may follow "name:"; empty = nothing may
  std::string_view summary;
  std::unique_ptr<ExpertPolicy> (*make)(const PolicyShape& shape, std::string_view args);
};

// Every policy, one row each. A new policy = one file in policies/ and one row.
std::span<const PolicyRow> policy_table();

// `spec`: "name" or "name:arguments", e.g. "hobbit:0.4,0.2,0.2,0.2". Error(kInvalidArgument)
// listing the names when it is none of them, or saying what arguments the policy takes.
std::unique_ptr<ExpertPolicy> make_policy(std::string_view spec, const PolicyShape& shape);

// The same errors without making one.
void check_policy(std::string_view spec);

}  // namespace hob
