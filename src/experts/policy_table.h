#pragma once
#include <memory>
#include <span>
#include <string_view>

#include "experts/policy.h"

namespace hob {

struct PolicyRow {
  std::string_view name;
  std::string_view summary;
  std::unique_ptr<ExpertPolicy> (*make)(const PolicyShape& shape);
};

// Every policy, one row each. A new policy = one file in policies/ and one row.
std::span<const PolicyRow> policy_table();

// Error(kInvalidArgument) listing the names when `name` is not one of them.
std::unique_ptr<ExpertPolicy> make_policy(std::string_view name, const PolicyShape& shape);

}  // namespace hob
