// The formats and how to tell them from a template's text. Sources: the templates published with
// the models, and the substrings by which llama.cpp (llama-chat.cpp) tells them apart.
#include <array>

#include "base/error.h"
#include "text/chat_template.h"

namespace hob {
namespace {

struct FormatName {
  ChatFormat format;
  std::string_view name;
};
constexpr std::array kNames = std::to_array<FormatName>({
    {ChatFormat::kChatMl, "chatml"},
    {ChatFormat::kLlama2, "llama-2"},
    {ChatFormat::kMistral, "mistral"},
    {ChatFormat::kLlama3, "llama-3"},
    {ChatFormat::kGemma, "gemma"},
    {ChatFormat::kPhi3, "phi-3"},
    {ChatFormat::kDeepSeek, "deepseek"},
    {ChatFormat::kZephyr, "zephyr"},
});

// A template's text in one spelling, so that one substring fits all: no spaces, '...' quotes, real
// line breaks, x['y'] for x.y of messages.
std::string normalised(std::string_view jinja) {
  std::string out;
  for (size_t i = 0; i < jinja.size(); ++i) {
    const char c = jinja[i];
    if (c == ' ') continue;
    if (c == '\\' && i + 1 < jinja.size() && jinja[i + 1] == 'n') {
      out.push_back('\n');
      ++i;
    } else {
      out.push_back(c == '"' ? '\'' : c);
    }
  }
  constexpr std::string_view kDotted = "message.content";
  for (size_t i = out.find(kDotted); i != std::string::npos; i = out.find(kDotted, i)) {
    out.replace(i, kDotted.size(), std::string("message['content']"));
  }
  return out;
}

// What a detector looks at.
struct TemplateText {
  std::string_view raw;
  std::string compact;

  bool has(std::string_view part) const { return raw.find(part) != std::string_view::npos; }
  bool has_compact(std::string_view part) const { return compact.find(part) != std::string::npos; }
};

// The text between `open` + line break and `close` where the template writes it as one literal,
// escapes resolved.
std::optional<std::string> literal_between(std::string_view jinja, std::string_view open,
                                           std::string_view close) {
  for (size_t at = jinja.find(open); at != std::string_view::npos; at = jinja.find(open, at + 1)) {
    const char quote = at > 0 ? jinja[at - 1] : '\0';
    if (quote != '\'' && quote != '"') continue;
    std::string text;
    size_t i = at + open.size();
    for (; i < jinja.size() && jinja[i] != quote; ++i) {
      if (jinja[i] == '\\' && i + 1 < jinja.size()) {
        text.push_back(jinja[++i] == 'n' ? '\n' : jinja[i]);
      } else {
        text.push_back(jinja[i]);
      }
    }
    const size_t end = text.find(close);
    if (i < jinja.size() && end != std::string::npos && text.starts_with('\n'))
      return text.substr(1, end - 1);
  }
  return std::nullopt;
}

ChatTemplate chatml() {
  ChatTemplate chat;
  chat.format = ChatFormat::kChatMl;
  chat.system_prefix = "<|im_start|>system\n";
  chat.user_prefix = "<|im_start|>user\n";
  chat.assistant_prefix = chat.generation_prompt = "<|im_start|>assistant\n";
  chat.system_suffix = chat.user_suffix = chat.assistant_suffix = "<|im_end|>\n";
  return chat;
}

ChatTemplate llama2() {
  ChatTemplate chat;
  chat.format = ChatFormat::kLlama2;
  chat.system_prefix = "<<SYS>>\n";
  chat.system_suffix = "\n<</SYS>>\n\n";
  chat.user_prefix = "[INST] ";
  chat.user_suffix = " [/INST]";
  chat.assistant_prefix = " ";
  chat.assistant_suffix = " {{eos}}";
  chat.turn_separator = "{{bos}}";
  chat.system_place = SystemPlace::kFirstUser;
  chat.must_alternate = chat.trims_content = chat.begins_with_bos = true;
  return chat;
}

// [INST] as plain text (7B v0.1, v0.2, Mixtral 8x7B). The published text has a space before each
// [INST]: it is the one that SentencePiece puts at the beginning of a text and behind </s>, so it
// is not written again here.
ChatTemplate mistral_v1() {
  ChatTemplate chat;
  chat.format = ChatFormat::kMistral;
  chat.system_suffix = "\n\n";
  chat.user_prefix = "[INST] ";
  chat.user_suffix = " [/INST]";
  chat.assistant_prefix = " ";
  chat.assistant_suffix = "{{eos}}";
  chat.system_place = SystemPlace::kFirstUser;
  chat.must_alternate = chat.begins_with_bos = true;
  return chat;
}

// [INST] as a control token (v3 and later). With SentencePiece the space behind it comes from the
// tokenizer, with Tekken there is none.
ChatTemplate mistral_v3() {
  ChatTemplate chat = mistral_v1();
  chat.user_prefix = "[INST]";
  chat.user_suffix = "[/INST]";
  chat.assistant_prefix = "";
  chat.system_place = SystemPlace::kLastUser;
  return chat;
}

ChatTemplate mistral_v7() {
  ChatTemplate chat = mistral_v3();
  chat.system_prefix = "[SYSTEM_PROMPT]";
  chat.system_suffix = "[/SYSTEM_PROMPT]";
  chat.system_place = SystemPlace::kOwnTurn;
  return chat;
}

ChatTemplate llama3() {
  ChatTemplate chat;
  chat.format = ChatFormat::kLlama3;
  chat.system_prefix = "<|start_header_id|>system<|end_header_id|>\n\n";
  chat.user_prefix = "<|start_header_id|>user<|end_header_id|>\n\n";
  chat.assistant_prefix = chat.generation_prompt =
      "<|start_header_id|>assistant<|end_header_id|>\n\n";
  chat.system_suffix = chat.user_suffix = chat.assistant_suffix = "<|eot_id|>";
  chat.trims_content = chat.begins_with_bos = true;
  return chat;
}

ChatTemplate gemma() {
  ChatTemplate chat;
  chat.format = ChatFormat::kGemma;
  chat.system_suffix = "\n\n";
  chat.user_prefix = "<start_of_turn>user\n";
  chat.assistant_prefix = chat.generation_prompt = "<start_of_turn>model\n";
  chat.user_suffix = chat.assistant_suffix = "<end_of_turn>\n";
  chat.system_place = SystemPlace::kFirstUser;
  chat.must_alternate = chat.trims_content = chat.begins_with_bos = true;
  return chat;
}

ChatTemplate phi3(std::string_view line_break) {
  ChatTemplate chat;
  chat.format = ChatFormat::kPhi3;
  chat.system_prefix = fmt::format("<|system|>{}", line_break);
  chat.user_prefix = fmt::format("<|user|>{}", line_break);
  chat.assistant_prefix = chat.generation_prompt = fmt::format("<|assistant|>{}", line_break);
  chat.system_suffix = chat.user_suffix = chat.assistant_suffix =
      fmt::format("<|end|>{}", line_break);
  return chat;
}

ChatTemplate deepseek_v2() {
  ChatTemplate chat;
  chat.format = ChatFormat::kDeepSeek;
  chat.system_suffix = "\n\n";
  chat.user_prefix = "User: ";
  chat.user_suffix = "\n\n";
  chat.assistant_prefix = "Assistant: ";
  chat.assistant_suffix = "{{eos}}";
  chat.generation_prompt = "Assistant:";
  chat.begins_with_bos = true;
  return chat;
}

ChatTemplate deepseek_v3() {
  ChatTemplate chat;
  chat.format = ChatFormat::kDeepSeek;
  chat.user_prefix = "<｜User｜>";
  chat.assistant_prefix = chat.generation_prompt = "<｜Assistant｜>";
  chat.assistant_suffix = "<｜end▁of▁sentence｜>";
  chat.begins_with_bos = true;
  return chat;
}

// Zephyr ends every turn with EOS; Tulu's form of it (OLMoE) only the assistant's.
ChatTemplate zephyr(bool eos_after_every_turn) {
  ChatTemplate chat;
  chat.format = ChatFormat::kZephyr;
  chat.system_prefix = "<|system|>\n";
  chat.user_prefix = "<|user|>\n";
  chat.assistant_prefix = chat.generation_prompt = "<|assistant|>\n";
  chat.system_suffix = chat.user_suffix = eos_after_every_turn ? "{{eos}}\n" : "\n";
  chat.assistant_suffix = "{{eos}}\n";
  return chat;
}

std::optional<ChatTemplate> detect_inst(const TemplateText& text) {
  if (text.has("[SYSTEM_PROMPT]")) return mistral_v7();
  if (text.has("' [INST] ' + system_message")) return mistral_v1();
  if (text.has("[AVAILABLE_TOOLS]")) return mistral_v3();
  if (text.has("<<SYS>>")) {
    ChatTemplate chat = llama2();
    chat.trims_content = text.has(".strip()");
    if (!text.has_compact("bos_token+'[INST]")) chat.turn_separator = "";
    return chat;
  }
  ChatTemplate chat = mistral_v1();
  // The first templates continue directly behind [/INST].
  if (!text.has_compact("''+message['content']")) chat.assistant_prefix = "";
  return chat;
}

std::optional<ChatTemplate> detect_role_tokens(const TemplateText& text) {
  // GLM, EXAONE-MoE and Solar write <|user|> too, but are other formats.
  for (const std::string_view other :
       {"[gMASK]", "<|begin_of_image|>", "<|tool_declare|>", "<|content|>"}) {
    if (text.has(other)) return std::nullopt;
  }
  if (text.has("<|end|>")) {
    return phi3(text.has_compact("|>\n") || text.has_compact("|>'+'\n") ? "\n" : "");
  }
  constexpr std::string_view kUser = "'<|user|>\n'+message['content']";
  const size_t at = text.compact.find(kUser);
  if (at == std::string::npos) return std::nullopt;
  const std::string_view rest = std::string_view(text.compact).substr(at + kUser.size());
  if (rest.starts_with("+eos_token") || rest.starts_with("+'<|endoftext|>")) return zephyr(true);
  if (rest.starts_with("+'\n'") || rest.starts_with("}}\n") ||
      rest.starts_with("+'\n<|assistant|>")) {
    return zephyr(false);
  }
  return std::nullopt;
}

std::optional<ChatTemplate> detect_markup(const TemplateText& text) {
  if (text.has("<|im_start|>")) {
    // Phi-4 and SmolVLM use the token in other formats.
    if (text.has("<|im_sep|>") || text.has("<end_of_utterance>")) return std::nullopt;
    ChatTemplate chat = chatml();
    chat.default_system = literal_between(text.raw, "<|im_start|>system", "<|im_end|>");
    // QwQ and its kin open the answer's reasoning in the prompt.
    if (text.has_compact("<|im_start|>assistant\n<think>\n'"))
      chat.generation_prompt += "<think>\n";
    return chat;
  }
  if (text.has("[INST]")) return detect_inst(text);
  if (text.has("<start_of_turn>")) return gemma();
  if (text.has("<|start_header_id|>") && text.has("<|end_header_id|>")) {
    ChatTemplate chat = llama3();
    // Llama 3.1 and later always open with a system turn that names two dates, the second one fixed
    // by default.
    if (text.has_compact("CuttingKnowledgeDate:December2023") && text.has("\"26 Jul 2024\"")) {
      chat.system_prefix += "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
      chat.default_system = "";
    }
    return chat;
  }
  if (text.has("<｜Assistant｜>") && text.has("<｜User｜>")) {
    ChatTemplate chat = deepseek_v3();
    if (text.has_compact("<｜Assistant｜><think>\n")) chat.generation_prompt += "<think>\n";
    return chat;
  }
  if (text.has_compact("'Assistant:'+message['content']+eos_token")) return deepseek_v2();
  if (text.has("<|assistant|>")) return detect_role_tokens(text);
  return std::nullopt;
}

}  // namespace

std::optional<ChatTemplate> detect_chat_template(std::string_view jinja_template) {
  const TemplateText text{jinja_template, normalised(jinja_template)};
  std::optional<ChatTemplate> chat = detect_markup(text);
  if (!chat) return std::nullopt;
  chat->begins_with_bos = text.has("bos_token");
  chat->drops_reasoning = text.has_compact("split('</think>')");
  return chat;
}

std::optional<ChatFormat> detect_chat_format(std::string_view jinja_template) {
  const std::optional<ChatTemplate> chat = detect_chat_template(jinja_template);
  return chat ? std::optional(chat->format) : std::nullopt;
}

std::string_view chat_format_name(ChatFormat format) {
  for (const FormatName& row : kNames) {
    if (row.format == format) return row.name;
  }
  return "";
}

ChatTemplate standard_chat_template(ChatFormat format) {
  switch (format) {
    case ChatFormat::kChatMl:
      return chatml();
    case ChatFormat::kLlama2:
      return llama2();
    case ChatFormat::kMistral:
      return mistral_v1();
    case ChatFormat::kLlama3:
      return llama3();
    case ChatFormat::kGemma:
      return gemma();
    case ChatFormat::kPhi3:
      return phi3("\n");
    case ChatFormat::kDeepSeek:
      return deepseek_v2();
    case ChatFormat::kZephyr:
      return zephyr(true);
  }
  return chatml();
}

}  // namespace hob
