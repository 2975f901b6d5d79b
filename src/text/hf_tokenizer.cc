#include "text/hf_tokenizer.h"

#include "base/error.h"
#include "text/hf/folder.h"
#include "text/hf/gguf_family.h"
#include "text/hf/pipeline_tokenizer.h"
#include "text/pretokenizer.h"

namespace hob {

void add_hf_tokenizer(const std::string& dir, Metadata& metadata,
                      const HfTokenizerOptions& options) {
  std::optional<std::string> text = hf::read_file(dir, "tokenizer.json");
  if (!text) {
    fail(Code::kNotFound, "[tokenizer] {}: expected tokenizer.json, the folder has none", dir);
  }
  const hf::Json json = hf::parse_object(*text, "tokenizer.json");
  const hf::Node root(json, "");
  const hf::TokenList list =
      hf::read_token_list(root, hf::read_added_tokens(root), options.n_vocab);
  const bool complete = hf::add_family(root, list, metadata);
  hf::add_special_ids(dir, root, list, metadata);
  hf::add_chat_template(dir, metadata);
  if (complete && options.for_file) return;
  metadata.erase("tokenizer.ggml.pre");
  metadata.set(kHfTokenizerKey, *std::move(text));
  // Whatever is wrong with the rest of the file shows before a file is written.
  if (options.for_file) make_hf_tokenizer(metadata);
}

std::unique_ptr<Tokenizer> make_hf_tokenizer(const Metadata& metadata) {
  return std::make_unique<hf::PipelineTokenizer>(metadata.get_string(kHfTokenizerKey), metadata);
}

bool wants_hf_tokenizer(const Metadata& metadata) {
  if (!metadata.has(kHfTokenizerKey)) return false;
  const std::string pre = metadata.find_string("tokenizer.ggml.pre").value_or("");
  return pre.empty() || find_pretokenizer(pre) == nullptr;
}

}  // namespace hob
