#include "pack_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/size_parse.h"
#include "format/pack_file.h"
#include "output.h"
#include "pack_kl.h"

namespace hob::app {
namespace {

using Json = nlohmann::ordered_json;

void print_copy(const PackIndex& index, PackPrecision precision, const char* name) {
  if (!index.has(precision)) return;
  uint64_t smallest = UINT64_MAX, largest = 0;
  for (const PackLayer& layer : index.layers)
    for (const PackSlab& slab : layer.copies[precision].slabs) {
      smallest = std::min(smallest, slab.n_bytes);
      largest = std::max(largest, slab.n_bytes);
    }
  const std::string each = smallest == largest
                               ? format_size(largest)
                               : format_size(smallest) + " to " + format_size(largest);
  write_out(fmt::format("{}: {} ({}), {} each\n", name, format_size(index.slab_bytes(precision)),
                        types_of(index, precision), each));
}

}  // namespace

std::string types_of(const PackIndex& index, PackPrecision precision) {
  std::vector<std::string_view> names;
  for (const PackLayer& layer : index.layers) {
    const PackCopy& copy = layer.copies[precision];
    if (copy.slabs.empty()) continue;
    for (const PackPart& part : copy.parts) {
      const std::string_view name = dtype_info(part.dtype).name;
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

Json pack_json(const PackIndex& index) {
  return {{"slabs", slab_order(index).size()},
          {"high_bytes", index.slab_bytes(kPackHigh)},
          {"high_types", types_of(index, kPackHigh)},
          {"low_bytes", index.slab_bytes(kPackLow)},
          {"low_types", types_of(index, kPackLow)}};
}

void show_pack(const std::string& path, bool json) {
  const PackFile pack = PackFile::open(path);
  const PackIndex& index = pack.index();
  if (json) {
    Json facts = {{"version", kPackVersion},
                  {"layout", kPackLayout},
                  {"model", index.model.name},
                  {"model_bytes", index.model.total_bytes()}};
    facts.update(pack_json(index));
    for (const PackSection& s : index.sections) facts["sections"][s.name] = s.bytes.size();
    if (const auto table = kl_table_of(index, path)) facts["kl_table"] = kl_table_json(*table);
    return write_json({{"files", Json::array({path})}, {"pack", facts}});
  }
  write_out(fmt::format("{}: pack of {} ({}), version {}, layout {}, {} slabs\n", path,
                        printable(index.model.name), format_size(index.model.total_bytes()),
                        kPackVersion, kPackLayout, slab_order(index).size()));
  print_copy(index, kPackHigh, "high");
  print_copy(index, kPackLow, "low");
  for (const PackSection& s : index.sections)
    write_out(fmt::format("section {}: {} bytes\n", printable(s.name), s.bytes.size()));
  if (const auto table = kl_table_of(index, path)) print_kl_table(*table);
}

}  // namespace hob::app
