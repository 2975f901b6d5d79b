// hob trace MODEL -o FILE [-p TEXT | -f FILE] [-n N]; hob trace gen -o FILE.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "base/error.h"
#include "chat.h"
#include "engine/generate.h"
#include "engine/route_trace_writer.h"
#include "engine/trace_generator.h"
#include "interrupt.h"
#include "options.h"
#include "output.h"
#include "trace.h"

namespace hob::app {
namespace {

struct RecordOptions {
  CommonOptions common;
  std::string out;
  std::optional<std::string> prompt, file;
  int n_decode = 128;
  bool raw = false;
  SamplingParams sampling;
};

std::string prompt_of(const RecordOptions& o) {
  if (o.prompt && o.file) throw UsageError("[usage] expected one of -p and -f, got both");
  if (!o.prompt && !o.file) throw UsageError("[usage] expected a text: -p TEXT or -f FILE");
  std::string text = o.prompt ? *o.prompt : read_text_file(*o.file);
  if (text.empty()) throw UsageError("[usage] expected a prompt, got an empty one");
  return text;
}

std::vector<int32_t> prompt_tokens(const ChatText& chat, const std::string& text) {
  if (chat.format) return render_chat(*chat.format, *chat.tokenizer, {{"user", text}});
  return chat.tokenizer->encode(text, {.add_special = true, .parse_special = true});
}

RouteTrace trace_header(const ModelLayout& layout) {
  RouteTrace header;
  header.model = layout.spec.name.empty() ? layout.spec.arch : layout.spec.name;
  header.n_layers = layout.spec.n_layers;
  header.n_experts = layout.spec.moe.n_experts;
  header.top_k = layout.spec.moe.top_k;
  for (const ExpertLayer& layer : layout.experts.layers) {
    uint64_t bytes = 0;
    if (layer.n_experts > 0)
      for (const ExpertMatrix& part : layer.parts) bytes += part.bytes_per_expert;
    header.expert_bytes.push_back(bytes);
  }
  return header;
}

void record(const RecordOptions& o) {
  if (o.common.model.empty())
    throw UsageError(
        "[usage] expected a MODEL to record, or replay, fit or gen; see 'hob trace --help'");
  if (o.out.empty()) throw UsageError("[usage] --out is required; see 'hob trace --help'");
  const std::string text = prompt_of(o);
  ModelPlan plan = plan_model(session_options(o.common));
  if (!plan.layout.spec.is_moe())
    fail(Code::kInvalidArgument, "[trace] expected a model with experts, this one is dense");
  const ChatText chat = make_chat_text(plan.file.metadata(), o.raw);
  const std::vector<int32_t> prompt = prompt_tokens(chat, text);
  RouteTraceWriter writer(o.out, trace_header(plan.layout), /*with_predicted=*/false);
  RouteRecorder recorder(writer, static_cast<int>(prompt.size()));
  const std::unique_ptr<ModelSession> session = load_session(o.common, std::move(plan));
  session->decoder().set_route_observer(&recorder);

  const Interrupt interrupt = install_interrupt(/*patient=*/false);
  ProgressBar bar(o.common.quiet);
  GenerateOptions options;
  // The last token of an answer is sampled and never computed: one more than is to be recorded.
  options.max_new_tok = o.n_decode + 1;
  options.sampling = o.sampling;
  options.cancel = &interrupt.flag;
  uint64_t n_tok = 0;
  options.on_prefill = [&](int done, int total) {
    bar.update("reading", static_cast<uint64_t>(done), static_cast<uint64_t>(total));
  };
  options.on_token = [&](int32_t) {
    bar.update("recording", n_tok++, static_cast<uint64_t>(o.n_decode));
  };
  Engine& engine = session->engine();
  const GenerateResult result = generate(engine, engine.open(), prompt, options);
  bar.clear();
  session->decoder().set_route_observer(nullptr);
  if (result.finish == Finish::kCancelled)
    fail(Code::kCancelled, "[trace] expected to finish the recording, was interrupted");
  if (result.tokens.size() < 2)
    fail(Code::kInvalidArgument,
         "[trace] expected room for at least one token after the prompt, --ctx is {}",
         engine.limits().n_ctx);
  writer.finish();
  note(o.common.quiet, fmt::format("hob: {} prompt and {} decode tokens in {}", prompt.size(),
                                   result.tokens.size() - 1, o.out));
}

struct GenOptions {
  TraceGeneratorOptions gen;
  std::string out;
};

void generate_file(const GenOptions& o) {
  const std::vector<RouteTrace> turns = generate_route_traces(o.gen);
  RouteTraceWriter writer(o.out, turns.front(), /*with_predicted=*/true);
  for (size_t i = 0; i < turns.size(); i++) writer.add_turn(static_cast<int>(i), turns[i]);
  writer.finish();
}

}  // namespace

Runner setup_trace_record(CLI::App& app) {
  auto o = std::make_shared<RecordOptions>();
  add_common_options(app, o->common);
  app.get_option("MODEL")->required(false);  // the subcommands have none
  app.add_option("-o,--out", o->out, "trace file (CSV); required to record");
  app.add_option("-p,--prompt", o->prompt, "the prompt");
  app.add_option("-f,--file", o->file, "file with the prompt; - = stdin");
  app.add_option("-n", o->n_decode,
                 "decode tokens to record, past the end of the answer if need be")
      ->check(CLI::Range(1, 1 << 20));
  app.add_flag("--raw", o->raw, "no chat template: continue the text");
  app.add_option("--temp", o->sampling.temperature, "temperature; 0 = greedy");
  app.add_option("--seed", o->sampling.seed, "of the sampling");
  return [o] { record(*o); };
}

Runner setup_trace_generate(CLI::App& app) {
  auto o = std::make_shared<GenOptions>();
  TraceGeneratorOptions& g = o->gen;
  app.add_option("-o,--out", o->out, "trace file (CSV)")->required();
  app.add_option("--layers", g.n_layers)->check(CLI::Range(1, 1024));
  app.add_option("--experts", g.n_experts)->check(CLI::Range(1, 4096));
  app.add_option("-k", g.top_k, "experts of a token")->check(CLI::Range(1, 64));
  app.add_option("-p", g.n_prompt_tok, "prompt tokens")->check(CLI::Range(0, 1 << 16));
  app.add_option("-n", g.n_decode_tok, "decode tokens")->check(CLI::Range(1, 1 << 16));
  app.add_option("--turns", g.n_turns, "sequences")->check(CLI::Range(1, 1024));
  app.add_option("--rho", g.overlap, "share of a token's experts that the one before chose too");
  app.add_option("--alpha", g.alpha, "Zipf exponent of popularity within a layer");
  app.add_option("--mix", g.model_mix, "1: all sequences like the same experts, 0: each its own");
  app.add_option("--accuracy", g.accuracy, "of the column `predicted`");
  app.add_option("--expert-bytes", g.expert_bytes, "of one expert")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40));
  app.add_option("--seed", g.seed);
  return [o] { generate_file(*o); };
}

}  // namespace hob::app
