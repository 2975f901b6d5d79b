#include <algorithm>
#include <deque>

#include "base/error.h"
#include "text/chat_template.h"

namespace hob {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (size_t i = text.find(what); i != std::string::npos; i = text.find(what, i + with.size())) {
    text.replace(i, what.size(), with);
  }
}

// Collects the parts of a prompt; owns their texts.
class PromptBuilder {
 public:
  explicit PromptBuilder(const Tokenizer& tokenizer)
      : bos_(tokenizer.bos() >= 0 ? tokenizer.piece(tokenizer.bos(), true) : ""),
        eos_(tokenizer.eos() >= 0 ? tokenizer.piece(tokenizer.eos(), true) : "") {}

  void markup(std::string text) {
    replace_all(text, ChatTemplate::kBosMark, bos_);
    replace_all(text, ChatTemplate::kEosMark, eos_);
    add(std::move(text), true);
  }
  void content(std::string_view text) { add(std::string(text), false); }
  const std::vector<TextPart>& parts() const { return parts_; }

 private:
  void add(std::string text, bool parse_special) {
    if (text.empty()) return;
    texts_.push_back(std::move(text));
    parts_.push_back({texts_.back(), parse_special});
  }

  std::string bos_, eos_;
  std::deque<std::string> texts_;  // a deque: the parts' views stay valid
  std::vector<TextPart> parts_;
};

void check_messages(const ChatTemplate& chat, const std::vector<ChatMessage>& messages) {
  if (messages.empty())
    fail(Code::kInvalidArgument, "[chat] expected at least one message, got none");
  const std::string_view name = chat_format_name(chat.format);
  std::string_view expected = "user";
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      fail(Code::kInvalidArgument,
           "[chat] message {}: expected role system, user or assistant, got \"{}\"", i, role);
    }
    if (!chat.must_alternate) continue;
    if (role == "system" && i == 0) {
      if (messages.size() == 1 && chat.system_place != SystemPlace::kOwnTurn) {
        fail(Code::kInvalidArgument,
             "[chat] format {}: expected a user message after the system message", name);
      }
      continue;
    }
    if (role != expected) {
      fail(Code::kInvalidArgument, "[chat] message {}: format {} expected role {}, got {}", i, name,
           expected, role);
    }
    expected = role == "user" ? "assistant" : "user";
  }
}

std::string_view content_of(const ChatTemplate& chat, const ChatMessage& message) {
  std::string_view text = message.content;
  if (chat.drops_reasoning && message.role == "assistant") {
    constexpr std::string_view kEnd = "</think>";
    if (const size_t end = text.rfind(kEnd); end != std::string_view::npos) {
      text.remove_prefix(end + kEnd.size());
      text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
    }
  }
  return chat.trims_content ? trimmed(text) : text;
}

// Index of the user message that carries the system message; messages.size() when it has its own
// turn.
size_t system_carrier(const ChatTemplate& chat, const std::vector<ChatMessage>& messages) {
  size_t carrier = messages.size();
  if (chat.system_place == SystemPlace::kOwnTurn) return carrier;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "user") continue;
    carrier = i;
    if (chat.system_place == SystemPlace::kFirstUser) break;
  }
  return carrier;
}

void add_system(const ChatTemplate& chat, std::string_view text, PromptBuilder& prompt) {
  prompt.markup(chat.system_prefix);
  prompt.content(text);
  prompt.markup(chat.system_suffix);
}

void add_messages(const ChatTemplate& chat, const std::vector<ChatMessage>& messages,
                  PromptBuilder& prompt) {
  const bool has_system = messages[0].role == "system";
  std::optional<std::string> system = chat.default_system;
  if (has_system) system = std::string(content_of(chat, messages[0]));
  if (system && chat.system_place == SystemPlace::kOwnTurn) add_system(chat, *system, prompt);
  const size_t carrier = system_carrier(chat, messages);
  bool answered = false;
  for (size_t i = has_system ? 1 : 0; i < messages.size(); ++i) {
    const std::string_view content = content_of(chat, messages[i]);
    if (messages[i].role == "system") {
      add_system(chat, content, prompt);
    } else if (messages[i].role == "user") {
      if (answered) prompt.markup(chat.turn_separator);
      prompt.markup(chat.user_prefix);
      if (system && i == carrier) add_system(chat, *system, prompt);
      prompt.content(content);
      prompt.markup(chat.user_suffix);
    } else {
      prompt.markup(chat.assistant_prefix);
      prompt.content(content);
      prompt.markup(chat.assistant_suffix);
      answered = true;
    }
  }
  prompt.markup(chat.generation_prompt);
}

}  // namespace

std::vector<TokenId> render_chat(const ChatTemplate& chat, const Tokenizer& tokenizer,
                                 const std::vector<ChatMessage>& messages) {
  check_messages(chat, messages);
  PromptBuilder prompt(tokenizer);
  add_messages(chat, messages, prompt);
  std::vector<TokenId> ids = tokenizer.encode_parts(prompt.parts(), false);
  const bool wants_bos = (chat.begins_with_bos || tokenizer.adds_bos()) && tokenizer.bos() >= 0;
  if (wants_bos && (ids.empty() || ids[0] != tokenizer.bos()))
    ids.insert(ids.begin(), tokenizer.bos());
  return ids;
}

std::vector<TokenId> render_chat(ChatFormat format, const Tokenizer& tokenizer,
                                 const std::vector<ChatMessage>& messages) {
  return render_chat(standard_chat_template(format), tokenizer, messages);
}

}  // namespace hob
