#pragma once
// Constructors of the policies, for policy_table.cc.
#include <memory>

#include "experts/policy.h"

namespace hob {

std::unique_ptr<ExpertPolicy> make_lru_policy(const PolicyShape& shape);
std::unique_ptr<ExpertPolicy> make_ewma_policy(const PolicyShape& shape);
std::unique_ptr<ExpertPolicy> make_ewma_layer_policy(const PolicyShape& shape);

}  // namespace hob
