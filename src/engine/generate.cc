#include "engine/generate.h"

#include <algorithm>
#include <chrono>
#include <deque>

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

// Decodes one sequence, step by step.
class Decoding {
 public:
  Decoding(Engine& engine, int seq, std::span<const int32_t> prompt, const GenerateOptions& options)
      : engine_(engine), seq_(seq), options_(options), text_(prompt.begin(), prompt.end()) {
    if (!options.speculator) return;
    state_ = options.speculator->open(options.sampling, 0);
    options.speculator->set_hint([&engine](std::span<const int32_t> t) { engine.expect(t); });
  }

  // The token behind the text, which it joins.
  int32_t choose(std::span<const float> logits) {
    text_.push_back(sample(logits, options_.sampling, text_, static_cast<uint32_t>(text_.size())));
    return text_.back();
  }

  // Computes the newest token, and what was drafted behind it. `decided` gets what follows: one
  // token at least. At most n_left tokens are wanted.
  void step(int n_left, std::deque<int32_t>& decided) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    engine_.feed(seq_, {&text_.back(), 1}, 1);
    const DraftTree tree = draft(n_left);
    engine_.extend_tree(seq_, tree);
    TreeWalk walk(tree);
    const auto n_tok = static_cast<int>(text_.size());
    const LogitsSink sink = [&](int, int position, std::span<const float> logits) {
      if (!walk.waits_for(position < n_tok ? DraftTree::kRoot : position - n_tok)) return;
      decided.push_back(choose(logits));
      walk.choose(decided.back());
    };
    while (engine_.n_pending(seq_) + engine_.n_pending_nodes(seq_) > 0) {
      engine_.step(sink);
      rethrow_failure(engine_, seq_);
    }
    HOB_CHECK(walk.finish());
    engine_.accept(seq_, walk.path());
    if (!options_.speculator) return;
    options_.speculator->add_result(tree, walk.path());
    options_.speculator->add_step(1 + tree.size(),
                                  std::chrono::duration<double>(Clock::now() - start).count());
  }

 private:
  DraftTree draft(int n_left) {
    if (!options_.speculator) return {};
    const EngineLimits& limits = engine_.limits();
    const int room = std::min(n_left - 1, limits.n_ctx - static_cast<int>(text_.size()));
    if (room <= 0) return {};
    const int n_rows = std::min(limits.max_rows, limits.max_logit_rows) - 1;
    DraftJob job{
        .state = state_.get(), .tokens = text_, .max_nodes = n_rows, .max_depth = room, .tree = {}};
    options_.speculator->draft({&job, 1}, 1, n_rows);
    if (engine_.n_blocks_needed(seq_, 1 + job.tree.size()) > engine_.kv().n_free_blocks())
      return {};
    return std::move(job.tree);
  }

  Engine& engine_;
  int seq_;
  const GenerateOptions& options_;
  std::unique_ptr<DraftState> state_;
  std::vector<int32_t> text_;  // all tokens, up to the newest one decided
};

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
  Decoding decoding(engine, seq, prompt, options);
  std::deque<int32_t> decided;  // tokens of the answer that nobody has seen yet
  const LogitsSink sink = [&](int, int, std::span<const float> logits) {
    decided.push_back(decoding.choose(logits));
  };
  const Meter prefill_meter(engine);
  const bool complete = run_prefill(engine, seq, sink, options);
  result.prefill = prefill_meter.stop(engine.n_computed(seq) - n_kept);
  if (!complete) {
    result.finish = Finish::kCancelled;
    return result;
  }

  const SpeculationStats before =
      options.speculator ? options.speculator->stats() : SpeculationStats{};
  const Meter decode_meter(engine);
  const int n_most = options.max_new_tok >= 0 ? options.max_new_tok : engine.limits().n_ctx;
  int n_decoded = 0;
  while (true) {
    if (static_cast<int>(result.tokens.size()) >= n_most) {
      result.finish = Finish::kLength;
      break;
    }
    const int32_t next = decided.front();
    decided.pop_front();
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
    if (prompt.size() + result.tokens.size() - 1 >= static_cast<size_t>(engine.limits().n_ctx)) {
      result.finish = Finish::kContext;
      break;
    }
    if (!decided.empty()) continue;
    // The last token that -n allows needs no step of its own: nobody will read the logits after it.
    const int n_left = n_most - static_cast<int>(result.tokens.size());
    if (n_left == 0) continue;
    decoding.step(n_left, decided);
    n_decoded += static_cast<int>(decided.size());
  }
  result.decode = decode_meter.stop(n_decoded);
  if (options.speculator) result.speculation = options.speculator->stats() - before;
  return result;
}

}  // namespace hob
