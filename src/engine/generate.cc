#include "engine/generate.h"

#include <algorithm>

#include "base/error.h"

namespace hob {
namespace {

// Keeps the computed tokens that `prompt` shares, at most all but one: the last row must be
// computed for its logits.
void keep_common_prefix(Engine& engine, int seq, std::span<const int32_t> prompt) {
  const std::span<const int32_t> present =
      engine.tokens(seq).first(static_cast<size_t>(engine.n_computed(seq)));
  const auto [end, _] = std::mismatch(present.begin(), present.end(), prompt.begin(), prompt.end());
  const auto n_same = static_cast<int>(end - present.begin());
  engine.rewind(seq, std::min(n_same, static_cast<int>(prompt.size()) - 1));
}

bool cancelled(const GenerateOptions& options) { return options.cancel && options.cancel->load(); }

void rethrow_failure(const Engine& engine, int seq) {
  if (engine.error(seq)) std::rethrow_exception(engine.error(seq));
}

// Prefill. False when it was cancelled. The first answer token is sampled by the last chunk's sink.
bool run_prefill(Engine& engine, int seq, const LogitsSink& sink, const GenerateOptions& options) {
  const auto total = static_cast<int>(engine.tokens(seq).size());
  while (engine.n_computed(seq) < total) {
    if (cancelled(options)) return false;
    engine.step(sink);
    rethrow_failure(engine, seq);
    if (options.on_prefill) options.on_prefill(engine.n_computed(seq), total);
  }
  return true;
}

void check_prompt(const Engine& engine, std::span<const int32_t> prompt) {
  if (prompt.empty())
    fail(Code::kInvalidArgument, "[prompt] expected at least one token, got none");
  if (prompt.size() >= static_cast<size_t>(engine.limits().n_ctx))
    fail(Code::kInvalidArgument,
         "[context] expected a prompt of fewer than {} tokens (--ctx), got {}",
         engine.limits().n_ctx, prompt.size());
}

}  // namespace

const char* finish_name(Finish finish) {
  switch (finish) {
    case Finish::kStop:
      return "stop";
    case Finish::kLength:
      return "length";
    case Finish::kContext:
      return "context";
    case Finish::kCancelled:
      return "cancelled";
  }
  return "?";
}

GenerateResult generate(Engine& engine, int seq, std::span<const int32_t> prompt,
                        const GenerateOptions& options) {
  options.sampling.check();
  check_prompt(engine, prompt);
  keep_common_prefix(engine, seq, prompt);
  const int n_kept = engine.n_computed(seq);
  engine.feed(seq, prompt.subspan(static_cast<size_t>(n_kept)), 1);

  GenerateResult result;
  int32_t next = -1;
  const LogitsSink sink = [&](int, int position, std::span<const float> logits) {
    next =
        sample(logits, options.sampling, engine.tokens(seq), static_cast<uint32_t>(position) + 1);
  };
  const Meter prefill_meter(engine);
  const bool complete = run_prefill(engine, seq, sink, options);
  result.prefill = prefill_meter.stop(engine.n_computed(seq) - n_kept);
  if (!complete) {
    result.finish = Finish::kCancelled;
    return result;
  }

  const Meter decode_meter(engine);
  int n_decode_steps = 0;
  while (true) {
    if (options.max_new_tok >= 0 && static_cast<int>(result.tokens.size()) >= options.max_new_tok) {
      result.finish = Finish::kLength;
      break;
    }
    if (options.is_end && options.is_end(next)) {
      result.finish = Finish::kStop;
      break;
    }
    result.tokens.push_back(next);
    if (options.on_token) options.on_token(next);
    if (cancelled(options)) {
      result.finish = Finish::kCancelled;
      break;
    }
    if (static_cast<int>(engine.tokens(seq).size()) >= engine.limits().n_ctx) {
      result.finish = Finish::kContext;
      break;
    }
    // The last token that -n allows needs no step of its own: nobody will read the logits after it.
    if (static_cast<int>(result.tokens.size()) == options.max_new_tok) continue;
    engine.feed(seq, {&next, 1}, 1);
    engine.step(sink);
    rethrow_failure(engine, seq);
    n_decode_steps++;
  }
  result.decode = decode_meter.stop(n_decode_steps);
  return result;
}

}  // namespace hob
