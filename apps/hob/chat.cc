#include "chat.h"

#include "base/error.h"

namespace hob::app {
namespace {

ChatFormat require_format(const Metadata& metadata) {
  const std::optional<std::string> text = metadata.find_string("tokenizer.chat_template");
  if (!text)
    fail(Code::kUnimplemented,
         "[chat] expected a chat template in the file, it has none: use --raw to continue plain "
         "text");
  const std::optional<ChatFormat> format = detect_chat_format(*text);
  if (!format)
    fail(Code::kUnimplemented,
         "[chat] expected a chat template that hob knows, this one is new: use --raw to continue "
         "plain text");
  return *format;
}

}  // namespace

ChatText make_chat_text(const Metadata& metadata, bool raw) {
  ChatText text{.tokenizer = Tokenizer::from_gguf(metadata), .format = std::nullopt};
  if (!raw) text.format = require_format(metadata);
  return text;
}

Chat::Chat(ModelSession& session, ChatText text, const ChatOptions& options)
    : session_(&session),
      options_(options),
      text_(std::move(text)),
      seq_(session.engine().open()) {}

std::vector<TokenId> Chat::prompt_tokens(const std::vector<ChatMessage>& messages) const {
  if (text_.format) return render_chat(*text_.format, *text_.tokenizer, messages);
  std::string text;
  for (const ChatMessage& m : messages) text += m.content;
  return text_.tokenizer->encode(text, {.add_special = true, .parse_special = true});
}

Answer Chat::ask(const std::string& text, const std::atomic<bool>& cancel, const OnText& on_text,
                 const OnPrefill& on_prefill) {
  std::vector<ChatMessage> messages = messages_;
  messages.push_back({"user", text});
  Answer answer;
  Detokenizer detokenizer(*text_.tokenizer);
  const auto emit = [&](std::string piece) {
    if (piece.empty()) return;
    on_text(piece);
    answer.text += piece;
  };
  GenerateOptions options;
  options.max_new_tok = options_.max_new_tok;
  options.sampling = options_.sampling;
  options.cancel = &cancel;
  options.speculator = options_.speculator;
  options.is_end = [&](int32_t token) {
    return !options_.ignore_end && text_.tokenizer->is_end(token);
  };
  options.on_token = [&](int32_t token) { emit(detokenizer.push(token)); };
  options.on_prefill = on_prefill;
  answer.result = generate(session_->engine(), seq_, prompt_tokens(messages), options);
  emit(detokenizer.finish());
  messages.push_back({"assistant", answer.text});
  messages_ = std::move(messages);
  return answer;
}

void Chat::clear() {
  std::erase_if(messages_, [](const ChatMessage& m) { return m.role != "system"; });
}

void Chat::set_system(const std::string& text) {
  messages_.clear();
  if (!text.empty()) messages_.push_back({"system", text});
}

int Chat::n_context_tok() const { return static_cast<int>(session_->engine().tokens(seq_).size()); }

}  // namespace hob::app
