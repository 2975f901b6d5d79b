#pragma once
// Virtual time of the tenants: rows that each was served. Ref: Sheng et al., "Fairness in serving
// large language models" (virtual token counter), OSDI'24.
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/request_scheduler.h"

namespace hob {

// Engine thread only.
class TenantBook {
 public:
  // A request of `tenant` came: its index while it has requests. Who comes back after a pause is
  // lifted to the least served of those that are here: nobody saves up time.
  int enter(const std::string& tenant);
  void leave(int index);  // one of its requests ended
  void serve(int index, int n_rows);
  void admit(int index, double now_s);
  std::span<const TenantView> views() const { return views_; }

 private:
  static constexpr size_t kMaxRemembered = 1024;  // tenants without requests

  int new_index(const std::string& tenant);

  std::unordered_map<std::string, int> index_;
  std::vector<std::string> names_;
  std::vector<TenantView> views_;
  std::vector<int> n_requests_;
};

}  // namespace hob
