// hob run MODEL [-p TEXT | -f FILE]: one prompt, or a chat on a terminal.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <random>

#include "base/error.h"
#include "base/memory_info.h"
#include "base/size_parse.h"
#include "chat.h"
#include "command.h"
#include "draft_options.h"
#include "interrupt.h"
#include "options.h"
#include "output.h"
#include "repl.h"

namespace hob::app {
namespace {

struct Options {
  CommonOptions common;
  std::optional<std::string> prompt, file;
  std::optional<uint64_t> seed;
  ChatOptions chat;
  bool raw = false;
  DraftOptions draft;
};

void check_options(Options& o) {
  if (o.prompt && o.file) throw UsageError("[usage] expected one of -p and -f, got both");
  try {
    o.chat.sampling.check();
  } catch (const Error& e) {
    throw UsageError(fmt::format("[usage] {}", e.what()));
  }
  if (!o.seed) {
    std::random_device device;
    // 48 bits: short enough to type again, long enough never to meet twice.
    o.seed = (static_cast<uint64_t>(device()) << 32 | device()) >> 16;
  }
  o.chat.sampling.seed = *o.seed;
}

// nullopt = chat on the terminal.
std::optional<std::string> one_prompt(const Options& o) {
  if (o.prompt) return o.prompt;
  if (o.file) return read_text_file(*o.file);
  if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) return std::nullopt;
  std::string text = read_stdin();
  // `echo hi |` means "hi"; a raw continuation of "hi\n" would start a new line.
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

void print_stats(const Options& o, const Answer& answer, const Decoder& decoder) {
  const GenerateResult& r = answer.result;
  if (r.finish == Finish::kContext)
    note(o.common.quiet,
         "hob: note: the answer ends because the context is full; --ctx sets its size");
  Usage all = r.prefill;
  all += r.decode;
  note(o.common.quiet, fmt::format("{:.2f} tok/s, hit rate {:.1f} %, {}/token, peak memory {}, "
                                   "seed {} (prompt {} tokens at {:.1f} tok/s; "
                                   "answer {} tokens, {})",
                                   r.decode.tok_s(), r.decode.hit_rate() * 100,
                                   format_size(static_cast<uint64_t>(r.decode.bytes_per_tok())),
                                   format_size(own_peak_bytes()), *o.seed, r.prefill.n_tok,
                                   r.prefill.tok_s(), r.tokens.size(), finish_name(r.finish)));
  if (o.draft.on())
    note(o.common.quiet, fmt::format("drafts: {} of {} tokens accepted in {} steps",
                                     r.speculation.n_accepted_tok, r.speculation.n_draft_tok,
                                     r.speculation.n_drafts));
  if (const PrecisionCounts mixed = decoder.precision_counts(); mixed.n_uses > 0)
    note(o.common.quiet, precision_text(mixed, decoder.thresholds()));
}

void print_json(const Options& o, const Answer& answer, const Decoder& decoder) {
  const GenerateResult& r = answer.result;
  nlohmann::ordered_json object = {{"text", answer.text},
                                   {"tokens", r.tokens},
                                   {"finish", finish_name(r.finish)},
                                   {"n_prompt_tok", r.prefill.n_tok},
                                   {"n_tok", r.tokens.size()},
                                   {"tok_s", r.decode.tok_s()},
                                   {"prefill_tok_s", r.prefill.tok_s()},
                                   {"hit_rate", r.decode.hit_rate()},
                                   {"bytes_per_tok", r.decode.bytes_per_tok()},
                                   {"stall_share", r.decode.stall_share()},
                                   {"peak_bytes", own_peak_bytes()},
                                   {"seed", *o.seed}};
  if (o.draft.on())
    object["draft"] = {{"n_drafts", r.speculation.n_drafts},
                       {"n_draft_tok", r.speculation.n_draft_tok},
                       {"n_accepted_tok", r.speculation.n_accepted_tok}};
  if (const PrecisionCounts mixed = decoder.precision_counts(); mixed.n_uses > 0)
    add_precision(object, mixed, decoder.thresholds());
  write_json(object);
}

void answer_once(const Options& o, Chat& chat, const Decoder& decoder, const std::string& prompt,
                 const std::atomic<bool>& interrupted) {
  ProgressBar bar(o.common.quiet);
  const auto on_text = [&](std::string_view text) {
    bar.clear();
    if (o.common.json) return;
    write_out(text);
    flush_out();
  };
  const auto on_prefill = [&](int done, int total) {
    bar.update("reading", static_cast<uint64_t>(done), static_cast<uint64_t>(total));
  };
  const Answer answer = chat.ask(prompt, interrupted, on_text, on_prefill);
  bar.clear();
  if (o.common.json) {
    print_json(o, answer, decoder);
  } else {
    write_out("\n");
    flush_out();
    print_stats(o, answer, decoder);
  }
  if (answer.result.finish == Finish::kCancelled)
    fail(Code::kCancelled, "[run] expected to finish the answer, was interrupted");
}

void run(Options o) {
  check_options(o);
  SessionOptions session_opts = session_options(o.common);
  const std::optional<std::string> prompt = one_prompt(o);
  if (prompt && prompt->empty()) throw UsageError("[usage] expected a prompt, got an empty one");
  const LocalDraft draft(o.draft, o.common, session_opts);
  reserve_rows(o.draft, session_opts);
  ModelPlan plan = plan_model(session_opts);
  ChatText text = make_chat_text(plan.file.metadata(), o.raw);
  const std::unique_ptr<ModelSession> session = load_session(o.common, std::move(plan));
  const std::unique_ptr<Speculator> speculator = draft.speculator(*session);
  o.chat.speculator = speculator.get();
  Chat chat(*session, std::move(text), o.chat);
  const Interrupt interrupt = install_interrupt(/*patient=*/!prompt);
  if (prompt) return answer_once(o, chat, session->decoder(), *prompt, interrupt.flag);
  run_repl(chat, interrupt, o.common.quiet,
           [&](const Answer& answer) { print_stats(o, answer, session->decoder()); });
}

}  // namespace

Runner setup_run(CLI::App& app) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.add_option("-p,--prompt", o->prompt,
                 "the prompt; without it: stdin, or a chat on a terminal");
  app.add_option("-f,--file", o->file, "file with the prompt; - = stdin");
  app.add_option("-n", o->chat.max_new_tok, "most tokens of the answer; default: until it ends")
      ->check(CLI::Range(0, 1 << 24));
  SamplingParams& s = o->chat.sampling;
  app.add_option("--temp", s.temperature, "temperature; 0 = greedy");
  app.add_option("--top-k", s.top_k, "0 = off");
  app.add_option("--top-p", s.top_p, "1 = off");
  app.add_option("--min-p", s.min_p, "0 = off");
  app.add_option("--repeat-penalty", s.repetition_penalty, "1 = off");
  app.add_option("--presence-penalty", s.presence_penalty, "0 = off");
  app.add_option("--frequency-penalty", s.frequency_penalty, "0 = off");
  app.add_option("--seed", o->seed, "default: a random one, printed");
  app.add_flag("--raw", o->raw, "no chat template: continue the text");
  app.add_flag("--ignore-eos", o->chat.ignore_end, "go on past the end of the answer");
  add_draft_options(app, o->draft);
  return [o] { run(*o); };
}

}  // namespace hob::app
