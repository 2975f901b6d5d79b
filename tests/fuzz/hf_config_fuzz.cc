// Arbitrary bytes as a config.json, and after a line of "---" as a generation_config.json. They
// must give keys, sizes and rotation tensors, or hob::Error: no crash, no overflow, no huge
// allocation.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "hf/hf_checkpoint.h"
#include "hf/packing_config.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(std::string_view config_text, std::string_view generation_text) {
  hob::HfConfig config = hob::HfConfig::parse(config_text, generation_text);
  for (const int64_t id : config.eos_ids()) require(id >= 0);
  require(config.bos_id().value_or(0) >= 0);
  const hob::HfFamily& family = hob::find_hf_family(config.architecture());
  config.set_defaults(family.defaults);
  const hob::Metadata metadata = hob::hf_metadata(config, family, "fuzz");
  require(metadata.get_string("general.architecture") == family.arch);
  const hob::HfGeometry geometry = hob::read_geometry(config.fields());
  require(geometry.n_layers >= 1 && geometry.n_leading_dense <= geometry.n_layers);
  for (const hob::HfRule& rule : family.rules(geometry))
    for (const hob::HfDim d : rule.shape) require(geometry[d] >= 0 && geometry[d] < (1LL << 40));
  for (const hob::HfComputed& t : hob::rope_tensors(config.fields()))
    require(t.values.size() < 1 << 22);
  if (const auto quantisation = config.fields().find_object("quantization_config"))
    if (const auto p = hob::read_packing(*quantisation))
      require(p->bits >= 2 && p->bits <= 8 && (p->group == -1 || p->group % 32 == 0));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view kCut = "\n---\n";
  const size_t cut = text.find(kCut);
  try {
    check(text.substr(0, cut), cut == text.npos ? "" : text.substr(cut + kCut.size()));
  } catch (const hob::Error&) {
  }
  return 0;
}
