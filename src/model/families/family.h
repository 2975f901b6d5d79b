#pragma once
// One row per model family. A new family is one file beside this one and one row in table.cc.
#include <span>
#include <string_view>
#include <vector>

#include "model/spec.h"
#include "model/spec_reader.h"
#include "model/tensor_rules.h"

namespace hob {

struct Family {
  std::string_view arch;    // `general.architecture`, also the family's name
  std::string_view models;  // and what is peculiar to them, for people: `hob families`
  std::string_view attention, ffn;
  ModelSpec (*read_spec)(const SpecReader&);
  // Every tensor that a file of this family may hold, given its spec.
  std::vector<TensorRule> (*rules)(const ModelSpec&);
};

std::span<const Family> family_table();
// Throws Error(kUnimplemented) that names `arch` and lists the known ones.
const Family& find_family(std::string_view arch);

// The rows.
Family llama_family();
Family qwen2_family();
Family qwen3_family();
Family qwen2moe_family();
Family qwen3moe_family();
Family olmoe_family();
Family gemma3_family();
Family gpt_oss_family();
Family granite_family();
Family granitemoe_family();
Family phi3_family();
Family phimoe_family();
Family deepseek_family();
Family deepseek2_family();

}  // namespace hob
