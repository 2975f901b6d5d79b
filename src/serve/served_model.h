#pragma once
// The model as clients see it, and what of the server changes while it runs.
#include <atomic>
#include <cstdint>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "serve/completion_service.h"
#include "serve/metrics.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace hob {

struct ModelFacts {
  std::string name;                  // what clients call it
  std::vector<std::string> aliases;  // also accepted
  std::string path;
  std::string arch;          // "olmoe"
  std::string quantisation;  // "Q4_K_M"
  std::string chat_template;
  std::string digest;  // 64 hex digits that differ between files
  uint64_t n_params = 0;
  uint64_t file_bytes = 0;
  uint64_t memory_bytes = 0;  // what the process plans to use
  std::time_t modified = 0, loaded = 0;
  int n_ctx_train = 0, d_model = 0, n_layers = 0;
  int max_queue = 512;  // requests the engine lets wait
};

struct LoadedModel {
  ModelFacts facts;
  const Tokenizer* tokenizer = nullptr;
  std::optional<ChatTemplate> chat;  // nullopt: the file has none that hob knows
  CompletionService* service = nullptr;
  double load_s = 0;

  bool answers_to(const std::string& model) const;
};

// Shared by all threads of the server.
class ServerState {
 public:
  std::shared_ptr<const LoadedModel> model() const;  // null while loading
  void set_model(std::shared_ptr<const LoadedModel> model);
  // What happens while the model loads, for /ready.
  void set_progress(std::string what, double share);
  std::pair<std::string, double> progress() const;

  void set_draining() { draining_ = true; }
  bool draining() const { return draining_; }

  Metrics& metrics() { return metrics_; }
  uint64_t next_id() { return next_id_++; }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const LoadedModel> model_;
  std::pair<std::string, double> progress_{"starting", 0};
  std::atomic<bool> draining_{false};
  std::atomic<uint64_t> next_id_{1};
  Metrics metrics_;
};

}  // namespace hob
