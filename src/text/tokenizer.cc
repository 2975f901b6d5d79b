#include "text/tokenizer.h"

#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/hf_tokenizer.h"
#include "text/spm_tokenizer.h"

namespace hob {

std::unique_ptr<Tokenizer> Tokenizer::from_gguf(const Metadata& metadata) {
  const std::string model = metadata.find_string("tokenizer.ggml.model").value_or("no_vocab");
  if (model == "no_vocab" || model == "none") {
    fail(Code::kNotFound, "[tokenizer] expected a vocabulary, file has none");
  }
  if (wants_hf_tokenizer(metadata)) return make_hf_tokenizer(metadata);
  if (model == "llama") return std::make_unique<SpmTokenizer>(metadata);
  if (model == "gpt2") return std::make_unique<BpeTokenizer>(metadata);
  fail(Code::kUnimplemented,
       "[tokenizer] tokenizer.ggml.model: expected llama or gpt2, file has \"{}\"", model);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const TextPart part{text, options.parse_special};
  return encode_parts({&part, 1}, options.add_special);
}

}  // namespace hob
