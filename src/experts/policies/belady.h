#pragma once
// Belady's offline optimum: the copy whose next use is the farthest goes. It must be told the
// future, so it is no row of the table; simulators make it.
#include <memory>
#include <vector>

#include "experts/policy.h"

namespace hob {

// future[e]: the steps that will use expert e, ascending. Optimal for copies of one size and one
// precision; with several it is the usual stand-in.
std::unique_ptr<ExpertPolicy> make_belady_policy(const PolicyShape& shape,
                                                 std::vector<std::vector<int64_t>> future);

}  // namespace hob
