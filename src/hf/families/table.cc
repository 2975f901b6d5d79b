#include <algorithm>

#include "base/error.h"
#include "format/byte_source.h"
#include "hf/hf_family.h"

namespace hob {

std::span<const HfFamily> hf_family_table() {
  static const HfFamily kTable[] = {
      hf_llama(),   hf_qwen2(),      hf_qwen3(),   hf_qwen2moe(), hf_qwen3moe(),
      hf_olmoe(),   hf_gemma3(),     hf_gpt_oss(), hf_deepseek(), hf_deepseek2(),
      hf_granite(), hf_granitemoe(), hf_phi3(),    hf_phimoe(),
  };
  return kTable;
}

const HfFamily& find_hf_family(std::string_view architecture) {
  std::string known;
  for (const HfFamily& f : hf_family_table())
    for (const std::string_view name : f.architectures) {
      if (name == architecture) return f;
      known += (known.empty() ? "" : ", ") + std::string(name);
    }
  fail(Code::kUnimplemented, "[hf] config.json: architectures: expected one of {}, file has {}",
       known, printable(architecture));
}

}  // namespace hob
