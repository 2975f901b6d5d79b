// GPTQ's act-order: in which order a packed tensor's columns are.
#include <numeric>

#include "base/error.h"
#include "hf/hf_tensor.h"

namespace hob {

std::optional<HfTensor> find_order(const HfTensor& t, const SafetensorsSet& set) {
  constexpr std::string_view kWeight = ".weight";
  if (!t.packing || t.dtype != packed_type(*t.packing) || !t.name.ends_with(kWeight))
    return std::nullopt;
  const auto n_in = static_cast<size_t>(t.d_source);
  HfTensor order;
  order.values.reserve(t.sources.size() * n_in);
  bool any = false;
  std::vector<std::byte> groups;
  for (const HfSource& s : t.sources) {
    std::vector<int32_t> own;
    if (s.groups) {
      groups.resize(static_cast<size_t>(s.groups->n_bytes));
      set.read(*s.groups, 0, groups);
      own = input_order({.packing = *t.packing,
                         .name = std::string_view(s.data->name).substr(0, s.data->name.rfind('.')),
                         .n_out = t.packed_rows,
                         .n_in = t.d_source,
                         .codes = {},
                         .zeros = {},
                         .scales = {},
                         .groups = groups});
    }
    any |= !own.empty();
    if (own.empty()) {
      own.resize(n_in);
      std::iota(own.begin(), own.end(), 0);
    }
    order.values.insert(order.values.end(), own.begin(), own.end());
  }
  if (!any) return std::nullopt;
  order.name = t.name.substr(0, t.name.size() - kWeight.size()) + ".order";
  order.dtype = DType::kF32;
  order.shape = {t.d_source};
  if (t.shape.n_dims > 2) order.shape = {static_cast<int64_t>(t.sources.size()), t.d_source};
  return order;
}

}  // namespace hob
