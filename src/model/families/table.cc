#include <string>

#include "base/error.h"
#include "model/families/family.h"

namespace hob {

std::span<const Family> family_table() {
  static const Family kTable[] = {
      llama_family(),   qwen2_family(),  qwen3_family(),   qwen2moe_family(),   qwen3moe_family(),
      olmoe_family(),   phi3_family(),   phimoe_family(),  deepseek_family(),   deepseek2_family(),
      gpt_oss_family(), gemma3_family(), granite_family(), granitemoe_family(),
  };
  return kTable;
}

const Family& find_family(std::string_view arch) {
  std::string known;
  for (const Family& f : family_table()) {
    if (f.arch == arch) return f;
    known += (known.empty() ? "" : ", ") + std::string(f.arch);
  }
  fail(Code::kUnimplemented, "[model] general.architecture: expected one of {}, file has \"{}\"",
       known, arch);
}

}  // namespace hob
