#include "serve/served_model.h"

#include <algorithm>

namespace hob {

bool LoadedModel::answers_to(const std::string& model) const {
  // Ollama's clients say "name:latest".
  constexpr std::string_view kLatest = ":latest";
  std::string_view name = model;
  if (name.ends_with(kLatest) && name.size() > kLatest.size()) name.remove_suffix(kLatest.size());
  return model == facts.name || name == facts.name ||
         std::find(facts.aliases.begin(), facts.aliases.end(), name) != facts.aliases.end();
}

std::shared_ptr<const LoadedModel> ServerState::model() const {
  std::lock_guard lock(mutex_);
  return model_;
}

void ServerState::set_model(std::shared_ptr<const LoadedModel> model) {
  std::lock_guard lock(mutex_);
  model_ = std::move(model);
}

void ServerState::set_progress(std::string what, double share) {
  std::lock_guard lock(mutex_);
  progress_ = {std::move(what), share};
}

std::pair<std::string, double> ServerState::progress() const {
  std::lock_guard lock(mutex_);
  return progress_;
}

}  // namespace hob
