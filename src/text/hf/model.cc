#include "text/hf/model.h"

#include "base/error.h"
#include "text/hf/raw_bytes.h"

namespace hob::hf {

TokenId ModelTokens::byte_token(uint8_t byte) const {
  return find_own(fmt::format("<0x{:02X}>", byte));
}

ModelKind model_kind(const Node& node) {
  const auto type = node.find_string("type");
  if (!type) {
    if (node.find("merges")) return ModelKind::kBpe;
    if (node.find("max_input_chars_per_word")) return ModelKind::kWordPiece;
    if (node.find("vocab") && node.find("vocab")->value().is_array()) return ModelKind::kUnigram;
  } else if (*type == "BPE") {
    return ModelKind::kBpe;
  } else if (*type == "Unigram") {
    return ModelKind::kUnigram;
  } else if (*type == "WordPiece") {
    return ModelKind::kWordPiece;
  }
  fail(Code::kUnimplemented,
       "[tokenizer] {}.type: expected BPE, Unigram or WordPiece, file has \"{}\"", node.path(),
       type.value_or("none"));
}

std::unique_ptr<Model> make_model(const Node& node, const ModelTokens& tokens) {
  switch (model_kind(node)) {
    case ModelKind::kBpe:
      return make_bpe(node, tokens);
    case ModelKind::kUnigram:
      return make_unigram(node, tokens);
    case ModelKind::kWordPiece:
      return make_wordpiece(node, tokens);
  }
  return nullptr;
}

bool append_byte_tokens(const ModelTokens& tokens, std::string_view text,
                        std::vector<TokenId>& out) {
  const size_t before = out.size();
  for (const char c : without_carried_bytes(text)) {
    const TokenId id = tokens.byte_token(static_cast<uint8_t>(c));
    if (id < 0) {
      out.resize(before);
      return false;
    }
    out.push_back(id);
  }
  return true;
}

}  // namespace hob::hf
