#pragma once
// One conversation with a loaded model: text in, streamed text out. `run -p` and the REPL both talk
// through it.
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "engine/model_session.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace hob::app {

struct ChatOptions {
  SamplingParams sampling;
  int max_new_tok = -1;
  bool ignore_end = false;           // go on past end tokens
  Speculator* speculator = nullptr;  // borrowed
};

struct Answer {
  std::string text;
  GenerateResult result;
};

// What turns messages into tokens and back. Made before the weights are loaded: a file that cannot
// chat says so at once.
struct ChatText {
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<ChatFormat> format;  // nullopt = raw
};
// Throws when the file's chat template is none that hob knows and `raw` is not set.
ChatText make_chat_text(const Metadata& metadata, bool raw);

class Chat {
 public:
  Chat(ModelSession& session, ChatText text, const ChatOptions& options);

  using OnText = std::function<void(std::string_view)>;
  using OnPrefill = std::function<void(int done, int total)>;
  // Adds the user's turn and the answer to the conversation. When it throws, the conversation is as
  // before.
  Answer ask(const std::string& text, const std::atomic<bool>& cancel, const OnText& on_text,
             const OnPrefill& on_prefill);
  void clear();
  void set_system(const std::string& text);
  int n_context_tok() const;

 private:
  std::vector<TokenId> prompt_tokens(const std::vector<ChatMessage>& messages) const;

  ModelSession* session_;
  ChatOptions options_;
  ChatText text_;
  std::vector<ChatMessage> messages_;
  int seq_;
};

}  // namespace hob::app
