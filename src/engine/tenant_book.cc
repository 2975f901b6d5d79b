#include "engine/tenant_book.h"

#include <algorithm>
#include <optional>

#include "base/error.h"

namespace hob {

int TenantBook::new_index(const std::string& tenant) {
  if (views_.size() < kMaxRemembered) {
    names_.push_back(tenant);
    views_.emplace_back();
    n_requests_.push_back(0);
    return static_cast<int>(views_.size()) - 1;
  }
  const auto idle = std::find(n_requests_.begin(), n_requests_.end(), 0);
  const auto i = static_cast<size_t>(idle - n_requests_.begin());
  if (idle == n_requests_.end()) {
    names_.emplace_back();
    views_.emplace_back();
    n_requests_.push_back(0);
  } else {
    index_.erase(names_[i]);
  }
  names_[i] = tenant;
  views_[i] = {};
  return static_cast<int>(i);
}

int TenantBook::enter(const std::string& tenant) {
  const auto [entry, is_new] = index_.try_emplace(tenant, -1);
  if (is_new) {
    const int i = new_index(tenant);  // may erase another entry: this one stays valid
    entry->second = i;
  }
  const int index = entry->second;
  const auto at = static_cast<size_t>(index);
  if (n_requests_[at]++ == 0) {
    std::optional<uint64_t> least;
    for (size_t i = 0; i < views_.size(); i++)
      if (i != at && n_requests_[i] > 0)
        least = std::min(least.value_or(UINT64_MAX), views_[i].n_served_rows);
    views_[at].n_served_rows = std::max(views_[at].n_served_rows, least.value_or(0));
  }
  return index;
}

void TenantBook::leave(int index) {
  HOB_CHECK(n_requests_[static_cast<size_t>(index)] > 0);
  n_requests_[static_cast<size_t>(index)]--;
}

void TenantBook::serve(int index, int n_rows) {
  views_[static_cast<size_t>(index)].n_served_rows += static_cast<uint64_t>(n_rows);
}

void TenantBook::admit(int index, double now_s) {
  views_[static_cast<size_t>(index)].last_admitted_s = now_s;
}

}  // namespace hob
