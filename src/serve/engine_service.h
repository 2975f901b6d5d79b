#pragma once
#include <utility>

#include "serve/completion_service.h"

namespace hob {

// The real engine as a CompletionService. Borrows it.
class EngineService : public CompletionService {
 public:
  explicit EngineService(CompletionEngine& engine) : engine_(&engine) {}

  std::optional<Refused> submit(CompletionRequest request,
                                std::shared_ptr<CompletionSink> sink) override {
    return engine_->submit(std::move(request), std::move(sink));
  }
  void cancel(const std::string& id) override { engine_->cancel(id); }
  void offer_draft(const std::string& id, DraftOffer offer) override {
    engine_->offer_draft(id, std::move(offer));
  }
  void set_self_decoding(const std::string& id, bool on) override {
    engine_->set_self_decoding(id, on);
  }
  void drain() override { engine_->drain(); }
  bool idle() const override { return engine_->idle(); }
  ServeStats stats() const override { return engine_->stats(); }
  int max_model_len() const override { return engine_->max_model_len(); }

 private:
  CompletionEngine* engine_;
};

}  // namespace hob
