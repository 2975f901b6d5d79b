#include "quant/tensor_groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "quant/calibration_names.h"

namespace hob {
namespace {

std::string kind_of(const RawTensor& tensor) {
  const std::optional<LayerName> name = layer_name(tensor.name);
  return name ? std::string(name->rest) : tensor.name;
}

int layer_of_tensor(const RawTensor& tensor) {
  const std::optional<LayerName> name = layer_name(tensor.name);
  return name ? name->layer : -1;
}

using Kinds = std::map<std::string, std::vector<const RawTensor*>>;

// The most bands per kind with at most n_most groups.
size_t bands(const Kinds& kinds, int n_most) {
  size_t longest = 1;
  for (const auto& [kind, tensors] : kinds) longest = std::max(longest, tensors.size());
  for (size_t n = longest; n > 1; n--) {
    size_t total = 0;
    for (const auto& [kind, tensors] : kinds) total += std::min(n, tensors.size());
    if (total <= static_cast<size_t>(n_most)) return n;
  }
  return 1;
}

}  // namespace

std::vector<TensorGroup> group_tensors(std::span<const RawTensor* const> tensors, int n_most) {
  Kinds kinds;
  for (const RawTensor* tensor : tensors) kinds[kind_of(*tensor)].push_back(tensor);
  const size_t n_bands = bands(kinds, n_most);
  std::vector<TensorGroup> groups;
  for (auto& [kind, all] : kinds) {
    std::stable_sort(all.begin(), all.end(), [](const RawTensor* a, const RawTensor* b) {
      return layer_of_tensor(*a) < layer_of_tensor(*b);
    });
    const size_t n = std::min(n_bands, all.size());
    for (size_t band = 0; band < n; band++) {
      TensorGroup group;
      for (size_t i = all.size() * band / n; i < all.size() * (band + 1) / n; i++)
        group.tensors.push_back(all[i]);
      group.name = group.tensors.front()->name;
      if (group.tensors.size() > 1)
        group.name += fmt::format(" and {} like it", group.tensors.size() - 1);
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

}  // namespace hob
