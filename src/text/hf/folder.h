#pragma once
// What lies beside tokenizer.json: the special tokens and the chat template.
#include <optional>
#include <string>

#include "format/metadata.h"
#include "text/hf/json.h"
#include "text/hf/token_list.h"

namespace hob::hf {

// The text of dir/name; nullopt when there is no such file. Throws on what is no ordinary file or
// too large.
std::optional<std::string> read_file(const std::string& dir, const std::string& name);

// The special tokens' ids, add_bos_token and add_eos_token.
void add_special_ids(const std::string& dir, const Node& root, const TokenList& list,
                     Metadata& metadata);
void add_chat_template(const std::string& dir, Metadata& metadata);

}  // namespace hob::hf
