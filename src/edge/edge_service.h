#pragma once
// An edge as a CompletionService: the HTTP layer serves from it as from a model of its own.
#include <memory>

#include "edge/edge_loop.h"
#include "serve/completion_service.h"

namespace hob::edge {

class EdgeService : public CompletionService {
 public:
  // Borrows all; starts the thread that drafts.
  EdgeService(Connector& connector, Speculator& speculator, const Tokenizer& tokenizer,
              const EdgeLoopOptions& options);
  ~EdgeService() override;  // cancels what runs

  std::optional<Refused> submit(CompletionRequest request,
                                std::shared_ptr<CompletionSink> sink) override;
  void cancel(const std::string& id) override;
  void offer_draft(const std::string&, DraftOffer) override {}
  void set_self_decoding(const std::string&, bool) override {}
  void drain() override;
  bool idle() const override;
  ServeStats stats() const override;
  int max_model_len() const override;
  EdgeStats edge_stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hob::edge
