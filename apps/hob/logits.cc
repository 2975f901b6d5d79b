// hob logits MODEL --tokens 1,2,3 --out FILE [--chunk N] [--batch B]: raw f32 [n_tokens, n_vocab].
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <memory>

#include "base/error.h"
#include "command.h"
#include "options.h"
#include "output.h"
#include "token_list.h"

namespace hob::app {
namespace {

struct Options {
  CommonOptions common;
  std::string tokens, out;
  int chunk = 0;
  int batch = 1;
};

// Without --chunk, logits of 64 rows are kept at a time: 512 rows of a 150k vocabulary would be 300
// MiB.
constexpr int kDefaultLogitRows = 64;

class FileSink {
 public:
  explicit FileSink(const std::string& path)
      : path_(path), out_(path, std::ios::binary | std::ios::trunc) {
    if (!out_) fail(Code::kIo, "[logits] expected a file to write, cannot create {}", path);
  }
  void add(std::span<const float> row) {
    out_.write(reinterpret_cast<const char*>(row.data()),
               static_cast<std::streamsize>(row.size_bytes()));
    n_rows_++;
  }
  void finish() {
    out_.close();
    if (!out_) fail(Code::kIo, "[logits] expected to write {}, the system refused", path_);
  }
  size_t n_rows() const { return n_rows_; }

 private:
  std::string path_;
  std::ofstream out_;
  size_t n_rows_ = 0;
};

// What neighbour `i` computes beside the sequence that is asked for: other tokens at every
// position.
std::vector<int32_t> neighbour_tokens(std::span<const int32_t> tokens, int i, int n_vocab) {
  std::vector<int32_t> other(tokens.begin(), tokens.end());
  for (size_t p = 0; p < other.size(); p++)
    other[p] = static_cast<int32_t>((other[p] + 7919LL * (i + 1) + 31LL * static_cast<int64_t>(p)) %
                                    n_vocab);
  return other;
}

// Feeds all sequences `chunk` tokens at a time, so that each step holds the same rows of each.
void run_chunks(Engine& engine, std::span<const int32_t> tokens, int chunk, int batch,
                FileSink& file) {
  const int target = batch / 2;
  std::vector<int> seqs;
  std::vector<std::vector<int32_t>> texts;
  for (int i = 0; i < batch; i++) {
    seqs.push_back(engine.open());
    texts.push_back(i == target ? std::vector<int32_t>(tokens.begin(), tokens.end())
                                : neighbour_tokens(tokens, i, engine.n_vocab()));
  }
  const LogitsSink sink = [&](int, int, std::span<const float> row) { file.add(row); };
  for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(chunk)) {
    const size_t n = std::min(static_cast<size_t>(chunk), tokens.size() - at);
    for (size_t i = 0; i < seqs.size(); i++)
      engine.feed(seqs[i], std::span(texts[i]).subspan(at, n),
                  static_cast<int>(i) == target ? static_cast<int>(n) : 0);
    while (engine.step(sink)) {
    }
    if (const auto& error = engine.error(seqs[static_cast<size_t>(target)]))
      std::rethrow_exception(error);
  }
}

void run(const Options& o) {
  const std::vector<int32_t> tokens = parse_token_list(o.tokens);
  if (tokens.empty()) throw UsageError("[usage] --tokens: expected at least one id, got none");
  SessionOptions options = session_options(o.common);
  const int n_tok = static_cast<int>(std::min<size_t>(tokens.size(), 1 << 24));
  options.n_seqs = o.batch;
  if (o.chunk) options.chunk = std::min(o.chunk, n_tok) * o.batch;
  options.max_logit_rows = o.chunk ? std::min(o.chunk, n_tok) : kDefaultLogitRows;

  const std::unique_ptr<ModelSession> session = load_session(o.common, plan_model(options));
  const int chunk = o.chunk ? o.chunk : std::max(1, session->plan().chunk / o.batch);
  Engine& engine = session->engine();
  if (tokens.size() > static_cast<size_t>(engine.limits().n_ctx))
    fail(Code::kInvalidArgument, "[context] expected at most {} tokens (--ctx), got {}",
         engine.limits().n_ctx, tokens.size());
  for (size_t i = 0; i < tokens.size(); i++)
    if (tokens[i] < 0 || tokens[i] >= engine.n_vocab())
      fail(Code::kInvalidArgument, "[tokens] expected ids in [0, {}), token {} is {}",
           engine.n_vocab(), i, tokens[i]);
  FileSink file(o.out);
  run_chunks(engine, tokens, chunk, o.batch, file);
  file.finish();
  if (o.common.json)
    write_json({{"n_tok", file.n_rows()},
                {"n_vocab", engine.n_vocab()},
                {"out", o.out},
                {"isa", session->backend().isa()}});
}

}  // namespace

Runner setup_logits(CLI::App& app) {
  auto o = std::make_shared<Options>();
  add_common_options(app, o->common);
  app.add_option("--tokens", o->tokens, "ids, comma separated")->required();
  app.add_option("--out", o->out, "file for the logits")->required();
  app.add_option("--chunk", o->chunk, "rows per step of the sequence")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--batch", o->batch, "compute the same rows among this many sequences")
      ->check(CLI::Range(1, 1024));
  return [o] { run(*o); };
}

}  // namespace hob::app
