#include "unit/model/model_harness_util.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/error.h"

namespace hob {
namespace {

ModelOpener opener = open_gguf;

}  // namespace

void set_model_opener(ModelOpener own) { opener = own; }
ModelFile open_test_model(const std::string& path) { return opener(path); }
namespace {

std::unique_ptr<ExpertCache> make_experts(const ModelLayout& layout, const Backend& backend,
                                          uint64_t budget_bytes) {
  if (!layout.spec.is_moe()) return nullptr;
  ExpertCacheOptions options;
  options.budget_bytes = budget_bytes;
  if (budget_bytes == 0) options.budget_bytes = ExpertCache::total_bytes(layout.experts, backend);
  if (budget_bytes == 1)
    options.budget_bytes = ExpertCache::smallest_budget(layout.experts, backend);
  return std::make_unique<ExpertCache>(layout.experts, backend, options);
}

int argmax(std::span<const float> row) {
  return static_cast<int>(std::max_element(row.begin(), row.end()) - row.begin());
}

std::vector<double> log_softmax(std::span<const float> row) {
  const double top = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (float l : row) sum += std::exp(l - top);
  std::vector<double> out;
  for (float l : row) out.push_back(l - top - std::log(sum));
  return out;
}

double kl_divergence(std::span<const float> p_logits, std::span<const float> q_logits) {
  const std::vector<double> p = log_softmax(p_logits), q = log_softmax(q_logits);
  double kl = 0;
  for (size_t i = 0; i < p.size(); i++) kl += std::exp(p[i]) * (p[i] - q[i]);
  return kl;
}

}  // namespace

ModelHarness::ModelHarness(const std::string& path, const BackendFactory& backend,
                           HarnessOptions options)
    : backend_(backend()),
      file_(open_test_model(path)),
      layout_(bind_layout(file_, *backend_)),
      kv_(layout_.kv(options.kv_type), options.n_ctx * 4),
      experts_(make_experts(layout_, *backend_, options.expert_budget_bytes)),
      decoder_(Decoder::load(file_, layout_, *backend_, options.max_rows, options.n_ctx, {})) {
  decoder_->set_experts(experts_.get());
}

void ModelHarness::append_rows(StepBatch& batch, SeqId seq, std::span<const int32_t> tokens,
                               bool want_logits) {
  const int begin = kv_.length(seq);
  const auto slots = kv_.reserve(seq, static_cast<int>(tokens.size()));
  HOB_CHECK(slots.has_value());
  for (size_t i = 0; i < tokens.size(); i++)
    batch.rows.push_back({.token = tokens[i],
                          .position = begin + static_cast<int>(i),
                          .seq = seq,
                          .kv_write_slot = (*slots)[i],
                          .kv_read = kv_.slots(seq),
                          .want_logits = want_logits});
}

std::vector<ModelHarness::Logits> ModelHarness::evaluate_together(
    const std::vector<Tokens>& sequences, int chunk) {
  std::vector<Logits> out(sequences.size());
  std::vector<SeqId> ids;
  for (size_t s = 0; s < sequences.size(); s++) ids.push_back(kv_.create());
  while (true) {
    StepBatch batch;
    std::vector<int> n_appended(sequences.size());
    for (size_t s = 0; s < sequences.size(); s++) {
      const auto rest =
          std::span<const int32_t>(sequences[s]).subspan(static_cast<size_t>(kv_.length(ids[s])));
      const auto now = rest.first(std::min(rest.size(), static_cast<size_t>(chunk)));
      append_rows(batch, ids[s], now, true);
      n_appended[s] = static_cast<int>(now.size());
    }
    if (batch.rows.empty()) break;
    Logits logits(batch.rows.size() * static_cast<size_t>(n_vocab()));
    decoder_->forward(batch, kv_,
                      {logits.data(), static_cast<int>(batch.rows.size()), n_vocab(), n_vocab()});
    auto from = logits.begin();
    for (size_t s = 0; s < sequences.size(); s++) {
      const auto to = from + static_cast<ptrdiff_t>(n_appended[s]) * n_vocab();
      out[s].insert(out[s].end(), from, to);
      from = to;
      kv_.commit(ids[s], n_appended[s]);
    }
  }
  for (SeqId id : ids) kv_.free(id);
  return out;
}

ModelHarness::Logits ModelHarness::evaluate(const Tokens& tokens, int chunk) {
  return evaluate_together({tokens}, chunk ? chunk : static_cast<int>(tokens.size())).front();
}

ModelHarness::Logits ModelHarness::evaluate_last(const Tokens& tokens) {
  const SeqId seq = kv_.create();
  StepBatch batch;
  append_rows(batch, seq, tokens, false);
  batch.rows.back().want_logits = true;
  Logits logits(static_cast<size_t>(n_vocab()));
  decoder_->forward(batch, kv_, {logits.data(), 1, n_vocab(), n_vocab()});
  kv_.free(seq);
  return logits;
}

LogitsFixture read_logits_fixture(const std::string& path_without_suffix) {
  LogitsFixture fixture;
  std::ifstream tokens(path_without_suffix + ".tokens");
  std::string id;
  while (std::getline(tokens, id, ',')) fixture.tokens.push_back(std::stoi(id));
  std::ifstream logits(path_without_suffix + ".f32", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(logits), {}};
  fixture.logits.resize(bytes.size() / sizeof(float));
  std::copy_n(bytes.data(), fixture.logits.size() * sizeof(float),
              reinterpret_cast<char*>(fixture.logits.data()));
  return fixture;
}

LogitsDifference compare_logits(std::span<const float> expected, std::span<const float> actual,
                                int n_vocab) {
  HOB_CHECK(expected.size() == actual.size() && !expected.empty());
  const size_t width = static_cast<size_t>(n_vocab), n_rows = expected.size() / width;
  LogitsDifference d;
  size_t n_same = 0;
  for (size_t r = 0; r < n_rows; r++) {
    const auto e = expected.subspan(r * width, width), a = actual.subspan(r * width, width);
    for (size_t i = 0; i < width; i++) {
      const double delta = std::abs(static_cast<double>(e[i]) - static_cast<double>(a[i]));
      d.max_abs = delta <= d.max_abs ? d.max_abs : delta;  // a NaN sticks
    }
    d.mean_kl += kl_divergence(e, a) / static_cast<double>(n_rows);
    if (argmax(e) == argmax(a)) n_same++;
  }
  d.same_argmax = static_cast<double>(n_same) / static_cast<double>(n_rows);
  return d;
}

}  // namespace hob
