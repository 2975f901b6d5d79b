#pragma once
// Small vocabularies made in memory.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "format/gguf.h"
#include "text/tokenizer.h"

namespace hob::testing_text {

struct Token {
  std::string text;
  int64_t type = 1;  // GGUF: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  double score = 0.0;
};

// Metadata with tokens, types and scores.
Metadata metadata_of(const std::string& model, const std::vector<Token>& tokens);

// <unk> <s> </s>, the 256 byte tokens, then `more`. Ids of `more` begin at kSpmFirst.
inline constexpr TokenId kSpmFirst = 259;
Metadata spm_metadata(const std::vector<Token>& more);

// The 256 byte characters (id = order of the code points), then `more`. Ids of `more` begin at
// kBpeFirst.
inline constexpr TokenId kBpeFirst = 256;
Metadata bpe_metadata(const std::string& pre, const std::vector<Token>& more,
                      const std::vector<std::string>& merges);

std::unique_ptr<Tokenizer> tokenizer_of(const Metadata& metadata);

// The message of the Error that making the tokenizer throws; "" when it throws none.
std::string error_of(const Metadata& metadata);

// The bytes of `text` as a byte-level vocabulary writes them.
std::string as_bytes(const std::string& text);

}  // namespace hob::testing_text
