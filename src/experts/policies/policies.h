#pragma once
// Constructors of the policies, for policy_table.cc. `args`: what follows "name:", or empty.
#include <memory>
#include <string_view>

#include "experts/policy.h"

namespace hob {

std::unique_ptr<ExpertPolicy> make_activation_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_ewma_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_ewma_layer_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_fld_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_hobbit_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_lcu_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_least_stale_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_lfu_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_lhu_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_lru_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_random_policy(const PolicyShape&, std::string_view args);
std::unique_ptr<ExpertPolicy> make_static_pin_policy(const PolicyShape&, std::string_view args);

}  // namespace hob
